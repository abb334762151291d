package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

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
	w, err := wal.Open(logDir, wal.WithLogger(raftLogger{out: slog.New(slog.DiscardHandler)}), wal.WithMetaStore(segments))
	if err != nil {
		return nil, nil, nil, errors.Join(fmt.Errorf("open log in %s: %w", logDir, err), segments.Close())
	}
	closeStores = func() error {
		if err := errors.Join(w.Close(), segments.Close()); err != nil {
			return fmt.Errorf("close log: %w", err)
		}
		return nil
	}
	return sealedLogs{w}, vote, closeStores, nil
}
