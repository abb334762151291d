package pintracker

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"holdfast/api"
)

// failingAt is a file system whose writes fail from the n-th on, counted from
// 0, with one error.
type failingAt struct {
	mu   sync.Mutex
	left int
	err  error
}

func (f *failingAt) around(inner vfs.FS) vfs.FS {
	return errorfs.Wrap(inner, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return nil
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.left > 0 {
			f.left--
			return nil
		}
		return f.err
	}))
}

func (f *failingAt) met() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.left == 0
}

// fill writes records until the store refuses, and returns how many were known
// to be on disk.
func fill(s *store, records int, filler string) (safe int, err error) {
	for n := range records {
		b := s.batch()
		rec := record{status: api.StatusPinned, mode: api.ModeRecursive, name: fmt.Sprint(n), errText: filler, revision: uint64(n + 1)}
		if err := errors.Join(b.put(fmt.Sprintf("%04d", n), nil, &rec), b.commit()); err != nil {
			return safe, err
		}
		if err := s.fence(int64(n+1), func() int64 { return int64(n + 1) }); err != nil {
			return safe, err
		}
		safe = n + 1
	}
	return safe, nil
}

// A disk that fails must not end the process, whichever write it is: the store
// says so with its next write, can be closed, and after that is as a crash at
// the failed write would have left it.
func TestStoreSurvivesFailingWrites(t *testing.T) {
	const seed, records = 20261121, 40
	rng := rand.New(rand.NewPCG(seed, 0))
	logger := slog.New(slog.DiscardHandler)
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for at, done := 0, false; !done; at++ {
			mem := vfs.NewCrashableMem()
			disk := &failingAt{left: at, err: cause}
			safe := 0
			s, err := openStore(disk.around(mem), "tracker", 1<<20, logger)
			if err == nil {
				safe, err = fill(s, records, "")
				if _, again := fill(s, 1, ""); err != nil && again == nil {
					t.Fatalf("%v at write %d: a store that failed goes on", cause, at)
				}
				_ = s.close() // it cannot write either
			}
			if done = !disk.met(); done && err != nil {
				t.Fatalf("without a failure: %v", err)
			}
			if err != nil && !errors.Is(err, cause) {
				t.Fatalf("%v at write %d: got %v", cause, at, err)
			}
			if errors.Is(cause, syscall.ENOSPC) && err != nil && api.CodeOf(err) != api.CodeNoSpace {
				t.Fatalf("full disk at write %d has code %s: %v", at, api.CodeOf(err), err)
			}
			after, err := openStore(mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng}), "tracker", 1<<20, logger)
			if err != nil {
				t.Fatalf("seed %d, %v at write %d: open again: %v", seed, cause, at, err)
			}
			for n := range safe {
				if _, known, err := after.get(fmt.Sprintf("%04d", n)); err != nil || !known {
					t.Fatalf("seed %d, %v at write %d: record %d of %d that were safe: %v, %v", seed, cause, at, n, safe, known, err)
				}
			}
			if err := after.close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The same in flushes and compactions, which happen in the background.
func TestStoreSurvivesFailingBackground(t *testing.T) {
	const seed = 20261122
	rng := rand.New(rand.NewPCG(seed, 0))
	noise := make([]byte, 256<<10)
	for i := range noise {
		noise[i] = byte('a' + rng.IntN(26))
	}
	for range 6 {
		at := 12 + rng.IntN(800)
		mem := vfs.NewCrashableMem()
		disk := &failingAt{left: at, err: syscall.EIO}
		s, err := openStore(disk.around(mem), "tracker", 1<<20, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fill(s, 300, string(noise)); err != nil && !strings.Contains(err.Error(), syscall.EIO.Error()) {
			t.Fatalf("seed %d, write %d: %v", seed, at, err)
		}
		_ = s.close()
		after, err := openStore(mem.CrashClone(vfs.CrashCloneCfg{}), "tracker", 1<<20, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("seed %d, write %d: open again: %v", seed, at, err)
		}
		if err := after.close(); err != nil {
			t.Fatal(err)
		}
	}
}
