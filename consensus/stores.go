package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
)

// OpenStores opens the log and the term-and-vote file below dir, which is
// created when missing. The caller closes them once Run has returned; a second
// process that opens them waits until they are closed.
func OpenStores(dir string) (logs raft.LogStore, stable raft.StableStore, closeStores func() error, err error) {
	logDir := filepath.Join(dir, "log")
	if err := os.MkdirAll(logDir, 0o700); err != nil {
		return nil, nil, nil, fmt.Errorf("create folder of the log: %w", err)
	}
	vote, err := NewStable(vfs.Default, filepath.Join(dir, "vote.json"))
	if err != nil {
		return nil, nil, nil, err
	}
	// The log does not close its list of segments by itself, and a process that
	// opened it again would wait for its own lock.
	segments := &metadb.BoltMetaDB{}
	w, err := openLog(logDir, segments)
	if err != nil {
		return nil, nil, nil, errors.Join(fmt.Errorf("open log in %s: %w; %s", logDir, err, joinAgain), segments.Close())
	}
	if err := votedBefore(dir, w); err != nil {
		return nil, nil, nil, errors.Join(err, w.Close(), segments.Close())
	}
	closeStores = func() error {
		if err := errors.Join(w.Close(), segments.Close()); err != nil {
			return fmt.Errorf("close log: %w", err)
		}
		return nil
	}
	return sealedLogs{w}, vote, closeStores, nil
}

// openLog opens the log. The database with the list of its segments believes its
// file, which is mapped into memory, and panics when it is damaged or cut.
func openLog(dir string, segments *metadb.BoltMetaDB) (w *wal.WAL, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the list of its segments is damaged: %v", r)
		}
	}()
	// Without that list it would begin anew and remove the segments.
	if _, err := os.Stat(filepath.Join(dir, metadb.FileName)); errors.Is(err, os.ErrNotExist) {
		if remains, err := filepath.Glob(filepath.Join(dir, "*.wal")); err != nil || len(remains) > 0 {
			return nil, errors.Join(fmt.Errorf("the list of its segments, %s, is gone", metadb.FileName), err)
		}
	}
	return wal.Open(dir, wal.WithLogger(raftLogger{out: slog.New(slog.DiscardHandler)}), wal.WithMetaStore(segments))
}

// votedBefore refuses a log whose term and vote are gone: the term is on the disk
// before the first entry is, and a peer that has forgotten its vote could vote
// twice (INV-TERM).
func votedBefore(dir string, logs raft.LogStore) error {
	path := filepath.Join(dir, "vote.json")
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	last, err := logs.LastIndex()
	if err != nil {
		return fmt.Errorf("read last index of the log: %w", err)
	}
	snapshots, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for snapshots: %w", err)
	}
	if last == 0 && len(snapshots) == 0 {
		return nil
	}
	return fmt.Errorf("term and vote in %s are gone, and the log is there: this peer may have voted and must not vote again; %s", path, joinAgain)
}
