package consensus

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// sink makes one snapshot: from a checkpoint that adopt hands over, or from
// the stream that Write is given.
type sink struct {
	store    *snapshots
	meta     snapshotMeta
	dir      string // temporary; "" until there is one, and when it has become the snapshot
	unpacker *unpacker
	done     bool
}

var _ raft.SnapshotSink = (*sink)(nil)

// ID returns what Open will be asked for.
func (s *sink) ID() string { return s.meta.ID }

// adopt takes over a temporary folder with a durable checkpoint.
func (s *sink) adopt(dir string, machineIndex uint64) error {
	s.dir = dir
	files, err := s.store.files(s.store.fs.PathJoin(dir, stateFolder), "")
	if err != nil {
		return fmt.Errorf("list checkpoint: %w", err)
	}
	s.meta.Files, s.meta.MachineIndex = files, machineIndex
	return nil
}

// Write unpacks the next piece of a stream.
func (s *sink) Write(data []byte) (int, error) {
	if s.unpacker == nil {
		dir, err := s.store.temporary()
		if err != nil {
			return 0, err
		}
		s.dir = dir
		s.unpacker = newUnpacker(s.store.fs, s.store.fs.PathJoin(dir, stateFolder))
	}
	return s.unpacker.Write(data)
}

// Close makes the snapshot visible, or fails and leaves nothing. Raft calls
// Close or Cancel, once.
func (s *sink) Close() error {
	if s.done {
		return nil
	}
	s.done = true
	if err := s.finish(); err != nil {
		return errors.Join(fmt.Errorf("finish snapshot %s: %w", s.meta.ID, err), s.discard())
	}
	if err := s.store.reap(); err != nil {
		s.store.logger.Warn("cannot look for old snapshots", "error", err)
	}
	return nil
}

func (s *sink) finish() error {
	if s.dir == "" {
		return errors.New("there is nothing in it")
	}
	// A snapshot of our own that was begun before a newer one came from the
	// leader: raft would go back to its index.
	if newest, _ := s.store.last.get(); s.meta.Index < newest {
		return fmt.Errorf("it ends at %d, and there is one up to %d already", s.meta.Index, newest)
	}
	if s.unpacker != nil {
		header, err := s.unpacker.finish()
		if err != nil {
			return err
		}
		s.meta.Files, s.meta.MachineIndex = header.Files, header.MachineIndex
		// Its sum is that of what the sender read, right or wrong. Once the snapshot
		// has its name, this peer stands on it.
		if err := s.store.verifyState(s.store.fs.PathJoin(s.dir, stateFolder), header.MachineIndex, true); err != nil {
			return err
		}
	}
	data, err := json.Marshal(s.meta)
	if err != nil {
		return fmt.Errorf("encode %s: %w", metaFile, err)
	}
	fs := s.store.fs
	if err := writeFile(fs, fs.PathJoin(s.dir, metaFile), seal(data)); err != nil {
		return fmt.Errorf("write %s: %w", metaFile, err)
	}
	if err := syncDir(fs, s.dir); err != nil {
		return err
	}
	if err := fs.Rename(s.dir, s.store.path(s.meta.ID)); err != nil {
		return err
	}
	s.dir = ""
	if err := syncDir(fs, s.store.dir); err != nil {
		s.store.remove(s.meta.ID)
		return err
	}
	s.store.note(s.meta)
	return nil
}

// Cancel leaves nothing of the snapshot.
func (s *sink) Cancel() error {
	if s.done {
		return nil
	}
	s.done = true
	return s.discard()
}

func (s *sink) discard() error {
	if s.unpacker != nil {
		s.unpacker.abort()
	}
	if s.dir == "" {
		return nil
	}
	if err := s.store.fs.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove unfinished snapshot: %w", err)
	}
	return nil
}
