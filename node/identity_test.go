package node

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// markerFile is where a repository with blocks in files has that of its name.
func markerFile(t *testing.T, dir, id string) string {
	t.Helper()
	mark, err := repoMarker(id)
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "blocks", "*", blockKey(mark.Cid()).BaseNamespace()+".data"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the repository's ID is in %v, %v", found, err)
	}
	return found[0]
}

// TestRepoIDOfDamage: only what is gone makes another repository, since all that
// was pinned in it is fetched again then.
func TestRepoIDOfDamage(t *testing.T) {
	other := func(data []byte) func(string) error {
		return func(path string) error { return os.WriteFile(path, data, 0o600) }
	}
	for _, test := range []struct {
		name  string
		spoil func(path string) error
		opens bool
		same  bool
	}{
		{"nothing", func(string) error { return nil }, true, true},
		{"other bytes", other([]byte("holdfast repository of others")), true, true},
		{"no bytes", other(nil), true, true},
		{"gone", os.Remove, true, false},
		{"cannot be read", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := testConfig(t)
			c.BlockStore = BlocksFlatfs
			n, stop := startStoppable(t, c)
			was := n.open.repoID
			stop()
			path := markerFile(t, c.Dir, was)
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.spoil(path); err != nil {
				t.Fatal(err)
			}
			if !test.opens {
				mustNotOpen(t, c, "ID among the blocks")
				return
			}
			n = start(t, c)
			if same := n.open.repoID == was; same != test.same {
				t.Errorf("the same repository: %v", same)
			}
			if now, err := os.ReadFile(path); test.same && (err != nil || !bytes.Equal(now, good)) {
				t.Errorf("its ID reads %q, %v", now, err)
			}
			if damaged := n.Damaged(); len(damaged) > 0 {
				t.Errorf("damaged are %v", damaged)
			}
		})
	}
}

// TestRepoIDGoneAfterDamage: blocks that were emptied after the damage was found
// are not those of the ID.
func TestRepoIDGoneAfterDamage(t *testing.T) {
	c := testConfig(t)
	c.BlockStore = BlocksFlatfs
	n, stop := startStoppable(t, c)
	was := n.open.repoID
	path := markerFile(t, c.Dir, was)
	_ = n.open.damage.add(t.Context(), blockKey(n.open.marker), "it is said to be")
	stop()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if n := start(t, c); n.open.repoID == was {
		t.Error("the same repository")
	}
}

// TestRepoIDOfOtherBytes has a record that holds no ID.
func TestRepoIDOfOtherBytes(t *testing.T) {
	for _, data := range []string{"", "nonsense", strings.Repeat("A", 25) + "\x41\x41"} {
		c := testConfig(t)
		_, stop := startStoppable(t, c)
		stop()
		store, err := openPebble(filepath.Join(c.Dir, "pebbleds"), 0, new(atomic.Bool))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(writeSynced(t.Context(), store, repoIDKey, []byte(data)), store.Close()); err != nil {
			t.Fatal(err)
		}
		mustNotOpen(t, c, "ID is damaged")
	}
}

func mustNotOpen(t *testing.T, c Config, why string) {
	t.Helper()
	n, err := New(c, testLogger())
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(testContext(t)); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("the node opens, or says %v", err)
	}
}
