package state_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"holdfast/api"
	"holdfast/state"
)

// trap does something before one operation that changes the disk, and says
// what error that operation ends with.
type trap struct {
	mu     sync.Mutex
	left   int // operations until it springs; below 0: it does not
	spring func() error
}

func (tr *trap) around(inner vfs.FS) vfs.FS {
	return errorfs.Wrap(inner, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return nil
		}
		tr.mu.Lock()
		defer tr.mu.Unlock()
		if tr.left--; tr.left != -1 {
			return nil
		}
		return tr.spring()
	}))
}

// set lets the trap spring before operation n from now, counted from 0; a
// negative one disarms it. It returns what was left before.
func (tr *trap) set(n int) int {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	left := tr.left
	tr.left = n
	if n < 0 {
		tr.left = -2
	}
	return left
}

func injected() error { return errorfs.ErrInjected }

// twoPinsets fills data/pinset with one content and a checkpoint with another,
// and returns the hashes of both.
func twoPinsets(t *testing.T, fs vfs.FS) (before, saved string) {
	t.Helper()
	for _, dir := range []string{"data/other", "data/pinset"} {
		p, err := state.Open(fs, dir)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 20 {
			pin := testPin(n, testPeer(len(dir)))
			apply(t, p, uint64(n+1), state.PinCommand{Pin: pin, At: epoch}.Encode())
		}
		before = mustHash(t, p)
		// The second makes what was applied so far survive a crash.
		if err := p.Checkpoint("data/snapshot-of" + strings.TrimPrefix(dir, "data")); err != nil {
			t.Fatal(err)
		}
		if dir == "data/other" {
			saved = before
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return before, saved
}

const snapshot = "data/snapshot-of/other"

// checkOpens opens a pinset and checks that it is one of two, whole and able
// to go on.
func checkOpens(t *testing.T, fs vfs.FS, what string, hashes ...string) {
	t.Helper()
	p, err := state.Open(fs, "data/pinset")
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer p.Close()
	got := mustHash(t, p)
	for _, hash := range hashes {
		if got == hash {
			apply(t, p, 100, state.PinCommand{Pin: testPin(100, testPeer(1)), At: epoch}.Encode())
			return
		}
	}
	t.Fatalf("%s: the pinset is neither the old one nor the new one", what)
}

// TestRestoreSurvivesCrashAtAnyWrite stops the world before the i-th write of a
// restore, for every i and several mixtures of what reached the disk.
func TestRestoreSurvivesCrashAtAnyWrite(t *testing.T) {
	const seed = 20261121
	rng := rand.New(rand.NewPCG(seed, 0))
	for i, done := 0, false; !done; i++ {
		mem := vfs.NewCrashableMem()
		before, saved := twoPinsets(t, mem)
		var clones []*vfs.MemFS
		tr := &trap{left: -2, spring: func() error {
			for _, percent := range []int{0, 20, 50, 80, 100} {
				clones = append(clones, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
			}
			return nil
		}}
		p, err := state.Open(tr.around(mem), "data/pinset")
		if err != nil {
			t.Fatal(err)
		}
		tr.set(i)
		if err := p.Restore(snapshot); err != nil {
			t.Fatal(err)
		}
		done = tr.set(-1) >= 0
		if got := mustHash(t, p); got != saved {
			t.Fatalf("restored %s, want %s", got, saved)
		}
		// What Restore returned for is there whatever happens next.
		checkOpens(t, mem.CrashClone(vfs.CrashCloneCfg{}), "after the restore", saved)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		for n, clone := range clones {
			checkOpens(t, clone, fmt.Sprintf("seed %d, crash before write %d, mixture %d", seed, i, n), before, saved)
		}
		if done {
			t.Logf("a restore makes %d writes", i)
		}
	}
}

// TestRestoreSurvivesFailedWrite lets the i-th write of a restore fail.
func TestRestoreSurvivesFailedWrite(t *testing.T) {
	for i, done := 0, false; !done; i++ {
		mem := vfs.NewCrashableMem()
		before, saved := twoPinsets(t, mem)
		tr := &trap{left: -2, spring: injected}
		p, err := state.Open(tr.around(mem), "data/pinset")
		if err != nil {
			t.Fatal(err)
		}
		tr.set(i)
		failure := p.Restore(snapshot)
		done = tr.set(-1) >= 0
		hash := mustHash(t, p)
		if failure == nil && hash != saved || failure != nil && hash != before {
			t.Fatalf("write %d failed: Restore says %v and shows the other pinset", i, failure)
		}
		// Either it can go on, or it says that it cannot; another restore mends it.
		_, broken := p.Apply(100, nil)
		if broken != nil && !errors.Is(broken, errorfs.ErrInjected) {
			t.Fatalf("write %d failed: refused for another reason: %v", i, broken)
		}
		if err := p.Restore(snapshot); err != nil {
			t.Fatalf("write %d failed: second restore: %v", i, err)
		}
		if got := mustHash(t, p); got != saved {
			t.Fatalf("write %d failed: second restore gave another pinset", i)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		checkOpens(t, mem, fmt.Sprintf("write %d failed", i), saved)
	}
}

// TestOpenSurvivesCrashAtAnyWrite stops the world during the creation of a
// pinset, and lets each write fail.
func TestOpenSurvivesCrashAtAnyWrite(t *testing.T) {
	const seed = 20261122
	rng := rand.New(rand.NewPCG(seed, 0))
	for i, done := 0, false; !done; i++ {
		mem := vfs.NewCrashableMem()
		var clone *vfs.MemFS
		tr := &trap{left: i, spring: func() error {
			clone = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
			return errorfs.ErrInjected
		}}
		p, err := state.Open(tr.around(mem), "data/pinset")
		done = tr.set(-1) >= 0
		if err == nil {
			if err := p.Close(); err != nil && !errors.Is(err, errorfs.ErrInjected) {
				t.Fatalf("write %d failed: close: %v", i, err)
			}
		}
		for _, fs := range []*vfs.MemFS{clone, mem.CrashClone(vfs.CrashCloneCfg{}), mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})} {
			if fs == nil {
				continue
			}
			p, err := state.Open(fs, "data/pinset")
			if err != nil {
				t.Fatalf("seed %d, write %d: open again: %v", seed, i, err)
			}
			apply(t, p, 1, state.PinCommand{Pin: testPin(1, testPeer(1)), At: epoch}.Encode())
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFullDiskIsAnError fills the disk while pins come in: Apply must say so
// and not block, and what is there when the disk has space again is whole.
func TestFullDiskIsAnError(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var tr *trap
	tr = &trap{left: -2, spring: func() error {
		tr.left = 0 // every write from now on
		return syscall.ENOSPC
	}}
	p, err := state.Open(tr.around(mem), "data/pinset")
	if err != nil {
		t.Fatal(err)
	}
	big := func(n int) []byte {
		pin := testPin(n, testPeer(1))
		pin.Metadata = map[string]string{"k": strings.Repeat(fmt.Sprint(n), 4000)}
		return state.PinCommand{Pin: pin, At: epoch}.Encode()
	}
	var failure error
	n := 0
	for ; failure == nil && n < 100_000; n++ {
		if n == 100 {
			tr.set(0)
		}
		_, failure = p.Apply(uint64(n+1), [][]byte{big(n)})
	}
	if api.CodeOf(failure) != api.CodeNoSpace || p.Applied() != uint64(n-1) {
		t.Fatalf("after %d pins, applied %d: %v", n, p.Applied(), failure)
	}
	if _, err := p.Apply(uint64(n+1), nil); !errors.Is(err, failure) {
		t.Errorf("a pinset that failed goes on: %v", err)
	}
	if err := p.Checkpoint("data/snapshot"); err == nil {
		t.Error("checkpoint of a pinset that failed")
	}
	_ = p.Close() // it cannot write either
	after := open(t, mem.CrashClone(vfs.CrashCloneCfg{}), "data/pinset")
	if uint64(len(list(t, after, api.PinFilter{}))) != after.Applied() {
		t.Errorf("%d pins at index %d", len(list(t, after, api.PinFilter{})), after.Applied())
	}
}

// TestFailedWriteIsACrash lets one write fail while pins come in, wherever it
// falls: in the log, a flush, a compaction or the manifest. The pinset must
// stop, close without leaving anything behind, and be whole at an earlier
// index when it is opened again.
func TestFailedWriteIsACrash(t *testing.T) {
	const seed = 20261123
	rng := rand.New(rand.NewPCG(seed, 0))
	// Fifty pins, written again and again, with 100 KiB each: several flushes.
	filler := make([]byte, 100<<10)
	for i := range filler {
		filler[i] = byte(rng.Uint32()) // so that nothing can be compressed away
	}
	var commands [][]byte
	revisions := make([]map[api.Cid]uint64, 1, 151) // by index
	for n := range uint64(150) {
		pin := testPin(int(n%50), testPeer(int(n%3)))
		pin.Metadata = map[string]string{"filler": string(filler)}
		commands = append(commands, state.PinCommand{Pin: pin, Expect: revisions[n][pin.Cid], At: epoch, RequestID: fmt.Sprint(n)}.Encode())
		next := map[api.Cid]uint64{}
		maps.Copy(next, revisions[n])
		next[pin.Cid] = n + 1
		revisions = append(revisions, next)
	}
	stopped := 0
	for range 8 {
		at := 12 + rng.IntN(1500)
		synctest.Test(t, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			tr := &trap{left: at, spring: injected}
			p, err := state.Open(tr.around(mem), "data/pinset")
			if err != nil {
				if !errors.Is(err, errorfs.ErrInjected) {
					t.Fatalf("seed %d, write %d: %v", seed, at, err)
				}
				return
			}
			for i, entry := range commands {
				if _, err := p.Apply(uint64(i+1), [][]byte{entry}); err != nil {
					if !errors.Is(err, errorfs.ErrInjected) {
						t.Fatalf("seed %d, write %d: %v", seed, at, err)
					}
					stopped++
					break
				}
			}
			_ = p.Close()
			after, err := state.Open(mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng}), "data/pinset")
			if err != nil {
				t.Fatalf("seed %d, write %d: open again: %v", seed, at, err)
			}
			got := map[api.Cid]uint64{}
			for _, pin := range list(t, after, api.PinFilter{}) {
				got[pin.Cid] = pin.Revision
			}
			if want := revisions[after.Applied()]; len(got) != len(want) || !maps.Equal(got, want) {
				t.Errorf("seed %d, write %d: the pinset is not what it was at index %d", seed, at, after.Applied())
			}
			if err := after.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Logf("%d of 8 runs met their failure in an Apply", stopped)
}

// TestNothingRunsAfterClose runs a life in a bubble of its own, which fails
// when a goroutine is left, and as simulations do.
func TestNothingRunsAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		before, saved := twoPinsets(t, fs)
		p, err := state.Open(fs, "data/pinset")
		if err != nil {
			t.Fatal(err)
		}
		if got := mustHash(t, p); got != before {
			t.Errorf("hash %s, want %s", got, before)
		}
		for pin, err := range p.Pins(api.PinFilter{}) {
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Restore(snapshot); err != nil || pin.Revision != 1 && pin.Revision > 20 {
				t.Fatal(err)
			}
			break
		}
		if got := mustHash(t, p); got != saved {
			t.Errorf("hash %s, want %s", got, saved)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// A write of Pebble's background fails while an Apply reads: what it reads may
// be nonsense by then, but the cause that is told is the disk's.
func TestFailedWriteDuringRead(t *testing.T) {
	mem := vfs.NewMem()
	const dir, pins = "data/pinset", 200
	entry := func(n int, expect uint64) [][]byte {
		pin := testPin(n, testPeer(1))
		pin.Metadata = map[string]string{"filler": strings.Repeat(fmt.Sprint("a block of its own ", n), 1_000)}
		return [][]byte{state.PinCommand{Pin: pin, Expect: expect, At: epoch, RequestID: fmt.Sprint(n, expect)}.Encode()}
	}
	p, err := state.Open(mem, dir)
	if err != nil {
		t.Fatal(err)
	}
	for n := range pins {
		if _, err := p.Apply(uint64(n+1), entry(n, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(p.Compact(t.Context()), p.Close()); err != nil {
		t.Fatal(err)
	}
	var failing atomic.Pointer[state.Pinset] // Pebble reads tables in the background too
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if p := failing.Load(); p != nil && op.Kind == errorfs.OpFileReadAt && strings.HasSuffix(op.Path, ".sst") {
			p.FailDisk(errorfs.ErrInjected)
			return errors.New("nonsense")
		}
		return nil
	}))
	if p, err = state.Open(fs, dir); err != nil {
		t.Fatal(err)
	}
	failing.Store(p)
	if _, err := p.Apply(pins+1, entry(pins/2, pins/2+1)); !errors.Is(err, errorfs.ErrInjected) {
		t.Errorf("Apply says %v", err)
	}
	_ = p.Close()
}
