package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
	"holdfast/config"
	"holdfast/consensus"
	"holdfast/node/fake"
)

// usedFolder is the folder of a peer that began a cluster, was stopped, and has
// something in every file.
func usedFolder(t *testing.T) Folder {
	t.Helper()
	folder, err := Found(filepath.Join(t.TempDir(), "peer"))
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteSettings(folder.Dir, map[string]any{"peername": "used"}); err != nil {
		t.Fatal(err)
	}
	if problem := runFolder(t, folder.Dir, func(d *Daemon) error {
		for i := range 30 {
			pin := api.PinRequest{Cid: numbered(t, i), RequestID: fmt.Sprint(i)}
			if _, err := d.cluster.Pin(t.Context(), pin); err != nil {
				return err
			}
		}
		snapshots := filepath.Join(folder.Dir, "raft", "snapshots")
		for {
			if made, err := os.ReadDir(snapshots); err == nil && len(made) > 0 {
				return nil
			}
			if !sleep(t.Context(), 10*time.Millisecond) {
				return t.Context().Err()
			}
		}
	}); problem != nil {
		t.Fatal(problem)
	}
	if folder, err = LoadFolder(folder.Dir); err != nil {
		t.Fatal(err)
	}
	return folder
}

func numbered(t *testing.T, i int) api.Cid {
	t.Helper()
	sum, err := multihash.Sum(fmt.Append(nil, i), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	return api.Cid{Cid: cid.NewCidV1(cid.Raw, sum)}
}

// runFolder starts the peer of a folder as cluster-service does, does something
// and stops it. The error is why it did not start.
func runFolder(t *testing.T, dir string, do func(*Daemon) error) error {
	t.Helper()
	effective, err := config.Load(filepath.Join(dir, ConfigFile), func(string) (string, bool) { return "", false }, map[string]string{
		"cluster.listen": "/ip4/127.0.0.1/tcp/0", "restapi.listen": "/ip4/127.0.0.1/tcp/0", "ipfsproxy.listen": "/ip4/127.0.0.1/tcp/0",
		"pinsvc.listen": "/ip4/127.0.0.1/tcp/0", "ipfs.swarm": "/ip4/127.0.0.1/tcp/0", "ipfs.gateway_listen": "/ip4/127.0.0.1/tcp/0"})
	if err != nil {
		return err
	}
	folder, err := LoadFolder(dir)
	if err != nil {
		return err
	}
	d, err := New(Options{Dir: dir, Config: effective.Config, Identity: folder.Identity, Cluster: folder.Cluster, Seams: Seams{
		Pace: func(c *consensus.Config) { c.SnapshotThreshold, c.SnapshotInterval = 8, 50*time.Millisecond },
		Node: func(wanted func(keep func(api.Pin) bool) error) (Node, error) {
			return fake.New(fake.Config{World: fake.NewWorld(0), Disk: fake.NewDisk(folder.Identity.ID), Wanted: wanted})
		}}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	select {
	case <-d.Ready():
	case err := <-done:
		return err
	}
	problem := do(d)
	cancel()
	return errors.Join(problem, <-done)
}

// A file of the folder that is missing, empty, cut or has another bit is an
// error that names the file or its folder and says what to do, or the peer is
// the one that it was: never another peer, another cluster, a pinset with less,
// or one that has forgotten its vote.
func TestEveryFileOfTheFolder(t *testing.T) {
	used := usedFolder(t)
	var files []string
	err := filepath.WalkDir(used.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			name, _ := filepath.Rel(used.Dir, path)
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{identityFile, clusterFile, formatFile, ConfigFile, "raft/vote.json"} {
		if !slices.Contains(files, name) {
			t.Fatalf("%s is not among %v", name, files)
		}
	}
	// Nothing else can tell what was in them.
	must := map[string]bool{identityFile: true, clusterFile: true, ConfigFile: true, "raft/vote.json": true}
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(used.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		flipped := slices.Clone(data)
		if len(data) > 0 {
			flipped[len(data)/2] ^= 0x04
		}
		for what, now := range map[string][]byte{"missing": nil, "empty": {}, "first half": data[:len(data)/2], "one bit": flipped} {
			if what != "missing" && slices.Equal(now, data) {
				continue // there is nothing to lose
			}
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "peer")
				if err := os.CopyFS(dir, os.DirFS(used.Dir)); err != nil {
					t.Fatal(err)
				}
				var err error
				if what == "missing" {
					err = os.Remove(filepath.Join(dir, name))
				} else {
					err = os.WriteFile(filepath.Join(dir, name), now, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
				err = runFolder(t, dir, func(d *Daemon) error { return sameAs(t, d, used) })
				if must[name] && err == nil {
					t.Error("nothing is said of it")
				}
				if err != nil {
					t.Logf("it says: %v", err)
					tells(t, err, dir, name)
				}
			})
		}
	}
}

// sameAs says how a peer that has started differs from the one that was stopped.
func sameAs(t *testing.T, d *Daemon, used Folder) error {
	if d.ID() != used.Identity.ID {
		t.Errorf("it is another peer: %s", d.ID())
	}
	info, err := LoadClusterInfo(d.opts.Dir)
	if err != nil || info.ID != used.Cluster.ID || string(info.Secret) != string(used.Cluster.Secret) || !info.Founded {
		t.Errorf("it is of another cluster: %+v, %v", info, err)
	}
	for i := range 30 {
		if _, err := d.cluster.Allocation(t.Context(), numbered(t, i)); err != nil {
			t.Errorf("pin %d is gone: %v", i, err)
		}
	}
	if term := d.log.Stats().Term; term < 2 {
		t.Errorf("it is in term %d again", term)
	}
	return nil
}

// tells checks that an error names the file, or the folder of it, and a remedy.
func tells(t *testing.T, err error, dir, name string) {
	t.Helper()
	text := err.Error()
	part := strings.Split(filepath.ToSlash(name), "/")[0]
	if !strings.Contains(text, filepath.Join(dir, name)) && !strings.Contains(text, filepath.Join(dir, part)) {
		t.Errorf("does not name %s", name)
	}
	for _, remedy := range []string{"restore", "remove", "join again", "config show"} {
		if strings.Contains(text, remedy) {
			return
		}
	}
	t.Error("does not say what to do")
}

// With another identity or in another cluster, a peer would go on with what is
// not its own; so no way in makes one where one was.
func TestNoNewPeerOnAnOldFolder(t *testing.T) {
	used := usedFolder(t)
	for _, name := range []string{identityFile, clusterFile} {
		lost := filepath.Join(t.TempDir(), "peer")
		if err := os.CopyFS(lost, os.DirFS(used.Dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(lost, name)); err != nil {
			t.Fatal(err)
		}
		d := Deployment{Secret: NewDeploymentSecret(), Founder: "used", Join: []string{"/ip4/127.0.0.1/tcp/1"}}
		for way, enter := range map[string]func() error{
			"daemon": func() error { _, err := LoadFolder(lost); return err },
			"init":   func() error { _, err := Found(lost); return err },
			"join":   func() error { _, err := EnsureIdentity(lost); return err },
			"daemon --init": func() error {
				_, err := Enter(t.Context(), lost, d, entering("used", "/ip4/127.0.0.1/tcp/0"), api.Version{}, NewLogger("error", "text", t.Output()))
				return err
			},
		} {
			if err := enter(); err == nil {
				t.Errorf("%s without %s: nothing is said of it", way, name)
			} else {
				tells(t, err, lost, name)
			}
		}
		if _, err := os.Stat(filepath.Join(lost, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("there is another %s: %v", name, err)
		}
	}
}

// No single bit of what a peer is may become another one unnoticed.
func TestEveryBitOfIdentityAndCluster(t *testing.T) {
	folder, err := Found(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	folder.Cluster.Recovered = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if err := folder.Cluster.Save(folder.Dir); err != nil {
		t.Fatal(err)
	}
	want, err := LoadFolder(folder.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{identityFile, clusterFile} {
		path := filepath.Join(folder.Dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 * len(data) {
			flipped := slices.Clone(data)
			flipped[i/8] ^= 1 << (i % 8)
			if err := os.WriteFile(path, flipped, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := LoadFolder(folder.Dir)
			if err == nil && (got.Identity.ID != want.Identity.ID || fmt.Sprintf("%+v", got.Cluster) != fmt.Sprintf("%+v", want.Cluster)) {
				t.Errorf("%s, bit %d: %+v", name, i, got.Cluster)
			}
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
