package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"
	lockfile "github.com/ipfs/go-fs-lock"
	kubo "github.com/ipfs/kubo/config"
	serialize "github.com/ipfs/kubo/config/serialize"
	"github.com/ipfs/kubo/core/coreiface/options"
	"github.com/ipfs/kubo/plugin"
	"github.com/ipfs/kubo/plugin/plugins/flatfs"
	"github.com/ipfs/kubo/plugin/plugins/levelds"
	"github.com/ipfs/kubo/repo"
	"github.com/ipfs/kubo/repo/fsrepo"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// registerDatastores tells Kubo of the datastores that we use. Its registry is
// a variable of the process and takes each name once, hence the once. LevelDB
// is there because existing repositories keep their metadata in it. Plugins
// are never looked for in folders.
var registerDatastores = sync.OnceValue(func() error {
	var all []plugin.Plugin
	all = append(append(all, flatfs.Plugins...), levelds.Plugins...)
	for _, p := range all {
		store, ok := p.(plugin.PluginDatastore)
		if !ok {
			return fmt.Errorf("%s is no datastore", p.Name())
		}
		if err := fsrepo.AddDatastoreConfigHandler(store.DatastoreTypeName(), store.DatastoreConfigParser()); err != nil {
			return err
		}
	}
	return fsrepo.AddDatastoreConfigHandler("pebbleds", parsePebbleConfig)
})

// Init makes the repository, with a new identity, unless there is one.
func Init(c Config) error {
	if err := c.Validate(); err != nil {
		return api.Errorf(api.CodeInvalid, "node config: %w", err)
	}
	c = c.withDefaults()
	if err := registerDatastores(); err != nil {
		return fmt.Errorf("register datastores: %w", err)
	}
	if fsrepo.IsInitialized(c.Dir) {
		return c.writeSwarmKey()
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return fmt.Errorf("make repository folder: %w", err)
	}
	identity, err := kubo.CreateIdentity(io.Discard, []options.KeyGenerateOption{options.Key.Type(options.Ed25519Key)})
	if err != nil {
		return fmt.Errorf("make identity: %w", err)
	}
	k, err := c.newKuboConfig(identity)
	if err != nil {
		return err
	}
	if err := fsrepo.Init(c.Dir, k); err != nil {
		return fmt.Errorf("make repository %s: %w", c.Dir, err)
	}
	return c.writeSwarmKey()
}

// writeSwarmKey puts the key of a private swarm where Kubo looks for it. A
// different key that is there already is a fault: it would cut the node off.
func (c Config) writeSwarmKey() error {
	path := filepath.Join(c.Dir, "swarm.key")
	present, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read swarm key: %w", err)
	}
	switch {
	case !c.Private && len(present) > 0:
		return api.Errorf(api.CodeInvalid, "%s exists, so the IPFS swarm is private; set it to private, or remove the file", path)
	case !c.Private:
		return nil
	case len(c.SwarmKey) == 0 && len(present) == 0:
		return api.Errorf(api.CodeInvalid, "the IPFS swarm is to be private, but %s is missing and no key is given", path)
	case len(c.SwarmKey) == 0:
		return nil
	case len(present) > 0 && string(present) != string(c.SwarmKey):
		return api.Errorf(api.CodeInvalid, "%s holds another key than the one that is configured; remove one of them", path)
	case len(present) > 0:
		return nil
	}
	if err := os.WriteFile(path, c.SwarmKey, 0o600); err != nil {
		return fmt.Errorf("write swarm key: %w", err)
	}
	return nil
}

// overlaidRepo is a repository whose config is overruled in memory and whose
// datastore refuses blocks when space is short.
type overlaidRepo struct {
	repo.Repo
	config *kubo.Config
	store  *guardedStore
}

func (r *overlaidRepo) Config() (*kubo.Config, error) { return r.config, nil }
func (r *overlaidRepo) Datastore() repo.Datastore     { return r.store }

func errInUse(dir string) error {
	return api.Errorf(api.CodeConflict, "another program uses the IPFS repository %s; stop it first", dir)
}

// lockRepo keeps a second node off the repository, also in this process, where
// Kubo would hand out the open repository again.
func lockRepo(dir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(dir, "holdfast.lock"), flock.SetPermissions(0o600))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock IPFS repository %s: %w", dir, err)
	}
	if !ok {
		return nil, errInUse(dir)
	}
	return lock, nil
}

// openRepo opens the repository and lays the config over it. The caller closes it.
func openRepo(ctx context.Context, c Config, damageFound chan struct{}, logger *slog.Logger) (*overlaidRepo, *space, error) {
	mended, err := c.mendedConfig()
	if err != nil {
		return nil, nil, err
	}
	r, err := fsrepo.OpenWithUserConfig(c.Dir, mended)
	var locked lockfile.LockedError
	if errors.As(err, &locked) {
		return nil, nil, errInUse(c.Dir)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open IPFS repository %s: %w", c.Dir, err)
	}
	file, err := r.Config()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read config of %s: %w", c.Dir, err), r.Close())
	}
	k, err := file.Clone()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("copy config of %s: %w", c.Dir, err), r.Close())
	}
	c.overlay(k)
	sp := newSpace(c, r.GetStorageUsage)
	damage, err := openDamage(ctx, r.Datastore(), damageFound, logger)
	if err != nil {
		return nil, nil, errors.Join(err, r.Close())
	}
	store := &guardedStore{Datastore: r.Datastore(), space: sp, damage: damage, oneLog: k.Datastore.Spec["type"] == "pebbleds"}
	return &overlaidRepo{Repo: r, config: k, store: store}, sp, nil
}

// identityOf reads the peer ID of a repository; "" when there is none yet.
func identityOf(dir string) (peer.ID, error) {
	if !fsrepo.IsInitialized(dir) {
		return "", nil
	}
	k, err := serialize.Load(filepath.Join(dir, kubo.DefaultConfigFile))
	if err != nil {
		return "", fmt.Errorf("read config of %s: %w", dir, err)
	}
	id, err := peer.Decode(k.Identity.PeerID)
	if err != nil {
		return "", fmt.Errorf("peer ID in config of %s: %w", dir, err)
	}
	return id, nil
}
