package state_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/internal/faultfs"
	"holdfast/state"
)

// damagedPinset is a pinset with a wrong bit in a table, for good.
func damagedPinset(t *testing.T) (*faultfs.FS, string) {
	t.Helper()
	base, hashes := readBase(t)
	fs := faultfs.New(base)
	p, err := state.Open(fs, "pinset")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Checkpoint("checkpoint"); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err = state.Open(fs, "pinset"); err != nil {
		t.Fatal(err)
	}
	fs.Set(faultfs.Plan{Lasting: true, Match: func(path string) bool { return strings.HasSuffix(path, ".sst") }})
	_, _, err = p.Hash()
	if _, hits := fs.Counts(); err == nil || hits != 1 {
		t.Fatalf("the hash of a damaged pinset: %v", err)
	}
	if _, err := p.Apply(1000, nil); err == nil {
		t.Error("a damaged pinset applies entries")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	return fs, hashes[uint64(len(hashes)-1)]
}

// A pinset in which wrong bytes were met is refused from then on, until it is
// made anew; what was there is kept.
func TestDamagedPinset(t *testing.T) {
	fs, hash := damagedPinset(t)
	for range 2 {
		if _, err := state.Open(fs, "pinset"); !errors.Is(err, state.ErrDamaged) {
			t.Fatalf("opened: %v", err)
		}
	}
	kept, err := state.StartOver(fs, "pinset")
	if err != nil {
		t.Fatal(err)
	}
	if names, err := fs.List(kept); err != nil || len(names) < 3 {
		t.Errorf("kept: %v, %v", names, err)
	}
	// Whatever a process that was killed has left beside it, the new one is whole.
	current, err := fs.List("pinset")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range current {
		if strings.HasPrefix(name, "db-") {
			file, err := fs.Create(fs.PathJoin("pinset", name, "left"), vfs.WriteCategoryUnspecified)
			if err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for n := range 2 {
		p, err := state.Open(fs, "pinset")
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 && (p.Applied() != 0 || p.Stats().Pins != 0) {
			t.Errorf("it begins at %d", p.Applied())
		}
		if n == 0 {
			fs.Set(faultfs.Plan{Lasting: true, Match: func(path string) bool { return strings.HasSuffix(path, ".sst") }})
			if err := p.Restore("checkpoint"); err == nil {
				t.Error("a damaged checkpoint was restored")
			}
			fs.Heal()
			if err := p.Restore("checkpoint"); err != nil {
				t.Fatal(err)
			}
		}
		if mustHash(t, p) != hash {
			t.Error("another pinset")
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// If the bytes were wrong on their way from the disk only, the pinset is as good
// as before.
func TestPinsetThatSeemedDamaged(t *testing.T) {
	fs, hash := damagedPinset(t)
	fs.Heal()
	for range 2 {
		p, err := state.Open(fs, "pinset")
		if err != nil {
			t.Fatal(err)
		}
		if mustHash(t, p) != hash {
			t.Error("another pinset")
		}
		apply(t, p, p.Applied()+1, state.PinCommand{Pin: testPin(5000+int(p.Applied()), testPeer(1)), At: epoch}.Encode())
		hash = mustHash(t, p)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := fs.List("pinset"); err != nil || strings.Contains(strings.Join(names, " "), "DAMAGED") {
		t.Errorf("it is still called damaged: %v, %v", names, err)
	}
}

// CURRENT says which of several databases counts: when it cannot be read right,
// none of them is touched.
func TestDamagedCurrent(t *testing.T) {
	for _, text := range []string{"", "db-", "db-00000", "db-000001", "db-000002\n", "db-000003\n", "db-00001\n", "db-000001\n\n", "xb-000001\n"} {
		base, hashes := readBase(t)
		f, err := base.Create("pinset/CURRENT", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if p, err := state.Open(base, "pinset"); err == nil {
			t.Errorf("CURRENT says %q: opened", text)
			_ = p.Close()
			continue
		}
		if f, err = base.Create("pinset/CURRENT", vfs.WriteCategoryUnspecified); err != nil {
			t.Fatal(err)
		}
		_, _ = f.Write([]byte("db-000001\n"))
		_ = f.Close()
		p, err := state.Open(base, "pinset")
		if err != nil {
			t.Errorf("CURRENT said %q: %v", text, err)
			continue
		}
		if mustHash(t, p) != hashes[p.Applied()] || p.Applied() == 0 {
			t.Errorf("CURRENT said %q, and the pinset is another", text)
		}
		_ = p.Close()
	}
}

// Whoever stops in the middle of a listing hears of no error that comes after.
func TestListingThatStops(t *testing.T) {
	base, _ := readBase(t)
	fs := faultfs.New(base)
	p, err := state.Open(fs, "pinset")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for n := range 40 {
		fs.Set(faultfs.Plan{Kind: faultfs.EIO, After: n, Count: -1})
		for _, pins := range lists(p) {
			for range pins {
				break
			}
		}
	}
	fs.Heal()
}

// A table that is gone, or that a damaged list of tables still names, is damage.
func TestTableIsGone(t *testing.T) {
	fs, _ := readBase(t)
	names, err := fs.List("pinset/db-000001")
	if err != nil {
		t.Fatal(err)
	}
	gone := 0
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") && gone == 0 {
			gone++
			if err := fs.Remove("pinset/db-000001/" + name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if gone == 0 {
		t.Fatalf("there are no tables in %v", names)
	}
	if _, err := state.Open(fs, "pinset"); !errors.Is(err, state.ErrDamaged) {
		t.Fatalf("opened: %v", err)
	}
	if _, err := state.StartOver(fs, "pinset"); err != nil {
		t.Fatal(err)
	}
	p, err := state.Open(fs, "pinset")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
