package consensus

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"github.com/hashicorp/raft"
)

// fencedLogs stands between raft and its log store. It does not offer
// raft.MonotonicLogStore: for such stores raft drops the whole log after a
// snapshot was installed, yet goes on believing in the entries behind the
// snapshot's index (hashicorp/raft#697 has the same cause). Instead reconcile
// leaves a log that agrees with the snapshot and has no gap.
type fencedLogs struct {
	raft.LogStore
	fatal func(error) // ends the peer; returns

	mu       sync.Mutex
	boundary raft.Log // index and term of the newest installed snapshot
}

// GetLog also knows the entry that a snapshot ends with, when the log does
// not: the leader's next message asks for its term. A log that cannot be read
// ends the peer: raft would panic on some ways and carry on with others.
func (f *fencedLogs) GetLog(index uint64, out *raft.Log) error {
	first, last, err := f.bounds()
	if err == nil {
		err = raft.ErrLogNotFound
		// raft-wal still finds what was cut off the beginning of a segment.
		if first <= index && index <= last {
			err = f.LogStore.GetLog(index, out)
		}
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, raft.ErrLogNotFound) {
		f.mu.Lock()
		boundary := f.boundary
		f.mu.Unlock()
		// Entry 1 has no term before it, so nobody needs its term alone.
		if index == boundary.Index && index > 1 {
			*out = boundary
			return nil
		}
		return raft.ErrLogNotFound // raft compares with ==
	}
	err = fmt.Errorf("log entry %d cannot be read: %w; %s", index, err, joinAgain)
	f.fatal(err)
	if replicates() {
		return err
	}
	runtime.Goexit() // only raft calls this, on goroutines of its own
	return nil
}

// replicates says whether the caller sends entries to a follower. Raft takes an
// error well there, and another of its goroutines would wait for ever for one
// that is ended.
func replicates() bool {
	var callers [16]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers[:])])
	for {
		frame, more := frames.Next()
		if strings.HasSuffix(frame.Function, "raft.(*Raft).setPreviousLog") || strings.HasSuffix(frame.Function, "raft.(*Raft).setNewLogs") {
			return true
		}
		if !more {
			return false
		}
	}
}

// DeleteRange deletes what there is of an inclusive range.
func (f *fencedLogs) DeleteRange(low, high uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.deleteRange(low, high)
}

func (f *fencedLogs) deleteRange(low, high uint64) error {
	first, last, err := f.bounds()
	if err != nil {
		return err
	}
	low, high = max(low, first), min(high, last)
	if first == 0 || low > high {
		return nil
	}
	if err := f.LogStore.DeleteRange(low, high); err != nil {
		return fmt.Errorf("delete log entries %d to %d: %w", low, high, err)
	}
	return nil
}

// bounds returns the first and last index, 0 and 0 for an empty log.
func (f *fencedLogs) bounds() (first, last uint64, err error) {
	if first, err = f.FirstIndex(); err != nil {
		return 0, 0, fmt.Errorf("read first index of the log: %w", err)
	}
	if last, err = f.LastIndex(); err != nil {
		return 0, 0, fmt.Errorf("read last index of the log: %w", err)
	}
	return first, last, nil
}

// has says whether the log holds the entry with this index and term. What
// cannot be read is not there; raft finds out by itself.
func (f *fencedLogs) has(index, term uint64) bool {
	first, last, err := f.bounds()
	if err != nil || index < first || index > last {
		return false
	}
	var entry raft.Log
	return f.LogStore.GetLog(index, &entry) == nil && entry.Term == term
}

// reconcile makes the log agree with a snapshot that ends at (index, term) and
// stands for everything up to there. Raft must not be writing: it is called
// before raft starts, and while raft waits for the machine to be restored.
//
//   - A log that ends before the snapshot is dropped: raft appends behind the
//     snapshot, and our store takes no gaps.
//   - A log that has the snapshot's last entry agrees with it, and stays.
//   - Otherwise the entries up to index conflict with what was committed, and
//     go. Those behind stay for now: raft still knows of them, and replaces
//     them when the leader sends its own. Without that, leader and follower
//     exchange the same snapshot for ever (hashicorp/raft#697).
func (f *fencedLogs) reconcile(index, term uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.boundary = raft.Log{Index: index, Term: term, Type: raft.LogNoop}
	first, last, err := f.bounds()
	if err != nil {
		return err
	}
	if first == 0 || first > index {
		return nil
	}
	if last < index {
		return f.deleteRange(first, last)
	}
	var entry raft.Log
	if err := f.LogStore.GetLog(index, &entry); err != nil {
		return fmt.Errorf("log entry %d cannot be read: %w", index, err)
	}
	if entry.Term == term {
		return nil
	}
	return f.deleteRange(first, index)
}

// fencedStable ends the peer when the term cannot be written. Raft panics
// then, and a full disk would take the whole process along.
type fencedStable struct {
	raft.StableStore
	fatal func(error) // ends the peer; returns
}

// SetUint64 stores a number durably.
func (f fencedStable) SetUint64(key []byte, value uint64) error {
	err := f.StableStore.SetUint64(key, value)
	if err == nil || string(key) != keyCurrentTerm {
		return err
	}
	f.fatal(fmt.Errorf("write current term: %w", err))
	runtime.Goexit() // raft's main goroutine; its deferred calls run
	return nil
}
