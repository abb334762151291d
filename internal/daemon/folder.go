package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"holdfast/api"
	"holdfast/config"
)

// Folder is the files of a peer that exist before it runs.
type Folder struct {
	Dir      string
	Identity Identity
	Cluster  ClusterInfo
}

// Found makes a new peer that begins a cluster of its own: identity and
// secret. It refuses a folder that already belongs to a cluster.
func Found(dir string) (Folder, error) {
	if err := mayFound(dir); err != nil {
		return Folder{}, err
	}
	identity, err := EnsureIdentity(dir)
	if err != nil {
		return Folder{}, err
	}
	info := NewClusterInfo()
	return Folder{Dir: dir, Identity: identity, Cluster: info}, info.Save(dir)
}

// EnsureIdentity makes the folder and its identity if they are missing.
func EnsureIdentity(dir string) (Identity, error) {
	if err := EnsureDir(dir); err != nil {
		return Identity{}, err
	}
	if err := checkWhole(dir); err != nil {
		return Identity{}, err
	}
	identity, err := LoadIdentity(dir)
	if !errors.Is(err, os.ErrNotExist) {
		return identity, err
	}
	if identity, err = NewIdentity(); err != nil {
		return Identity{}, err
	}
	return identity, identity.Save(dir)
}

// EnsureDir makes a peer's folder, for its owner only.
func EnsureDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the peer's folder: %w", err)
	}
	return nil
}

// checkWhole refuses a folder that a peer has used and that has lost what the
// peer is: with a new identity, or in a new cluster, it would go on with the log
// and the pinset of another one.
func checkWhole(dir string) error {
	there := func(name string) (bool, error) {
		_, err := os.Lstat(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}
	needs := []struct {
		name  string
		shown []string // what is there only once the file is
	}{{clusterFile, []string{"raft", "state", "tracker"}}, {identityFile, []string{clusterFile, "raft", "state", "tracker"}}}
	for _, need := range needs {
		is, err := there(need.name)
		if err != nil {
			return fmt.Errorf("look into the peer's folder: %w", err)
		}
		for _, name := range need.shown {
			shown, err := there(name)
			if err != nil {
				return fmt.Errorf("look into the peer's folder: %w", err)
			}
			if shown && !is {
				return api.Errorf(api.CodeInternal, "%s is gone, and %s shows that a peer was here: %s",
					filepath.Join(dir, need.name), filepath.Join(dir, name), restoreOrJoin(dir))
			}
		}
	}
	return nil
}

// LoadFolder reads a peer's files.
func LoadFolder(dir string) (Folder, error) {
	if err := checkWhole(dir); err != nil {
		return Folder{}, err
	}
	identity, err := LoadIdentity(dir)
	if errors.Is(err, os.ErrNotExist) {
		return Folder{}, api.Errorf(api.CodeNotFound, "%s holds no peer yet; run 'cluster-service init' to begin a cluster, or 'cluster-service join TOKEN' to join one", dir)
	}
	if err != nil {
		return Folder{}, err
	}
	info, err := LoadClusterInfo(dir)
	if errors.Is(err, os.ErrNotExist) {
		return Folder{}, api.Errorf(api.CodeNotFound, "the peer in %s belongs to no cluster yet; run 'cluster-service init' to begin one, or 'cluster-service join TOKEN' to join one", dir)
	}
	if err == nil && info.Removed {
		return Folder{}, errRemoved(dir)
	}
	if err == nil && info.Settings {
		path := filepath.Join(dir, ConfigFile)
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return Folder{}, api.Errorf(api.CodeInvalid, "the settings in %s are gone: restore the file from a backup, or write {} into it to go on with the defaults", path)
		}
	}
	return Folder{Dir: dir, Identity: identity, Cluster: info}, err
}

func errRemoved(dir string) error {
	return api.Errorf(api.CodeForbidden, "this peer was removed from its cluster; %s", joinAgain(dir))
}

func joinAgain(dir string) string {
	return fmt.Sprintf("to join again, stop it, move %s away, and do as at its first start: 'cluster-service join TOKEN', or 'daemon --init'", dir)
}

// mayFound refuses a folder whose peer has a cluster.
func mayFound(dir string) error {
	if err := checkWhole(dir); err != nil {
		return err
	}
	_, err := LoadClusterInfo(dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return api.Errorf(api.CodeInvalid, "%s already holds a peer of a cluster; choose another folder with --dir", dir)
}

// MayJoin refuses a folder whose peer has taken part in a cluster already. One
// that was only initialised may still join another.
func MayJoin(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "raft")); err == nil {
		return api.Errorf(api.CodeInvalid, "the peer in %s has already run in a cluster; join with a new folder (--dir)", dir)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look into the peer's folder: %w", err)
	}
	return nil
}

// WriteSettings writes service.json with what differs from the defaults.
func WriteSettings(dir string, settings map[string]any) error {
	return writeJSON(filepath.Join(dir, ConfigFile), config.Nest(settings))
}

var errLocked = errors.New("another process runs a peer")

// lockFolder makes sure that nobody else works in a peer's folder.
func lockFolder(dir string) (unlock func() error, err error) {
	path := filepath.Join(dir, lockFile)
	lock := flock.New(path)
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock the peer's folder: %w", err)
	}
	if !locked {
		return nil, fmt.Errorf("%w in %s (it holds %s); stop it, or choose another folder with --dir", errLocked, dir, path)
	}
	return lock.Unlock, nil
}

// folderPatience is how long a peer that starts waits for its folder.
const folderPatience = 10 * time.Second

// awaitFolder is lockFolder for who is going to run the peer: a command on the
// stopped peer, or a process that is about to end, has the folder for a moment.
func awaitFolder(ctx context.Context, dir string, logger *slog.Logger) (unlock func() error, err error) {
	giveUp := time.After(folderPatience)
	for told := false; ; told = true {
		if unlock, err = lockFolder(dir); !errors.Is(err, errLocked) {
			return unlock, err
		}
		if !told {
			logger.Info("waiting for the folder, which another process has", "dir", dir, "at_most", folderPatience)
		}
		select {
		case <-time.After(folderPatience / 100):
		case <-giveUp:
			return nil, err
		case <-ctx.Done():
			return nil, err
		}
	}
}
