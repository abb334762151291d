package consensus

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/raft"
)

// Machine is the state that the log builds. Raft calls it from one goroutine
// at a time.
type Machine interface {
	// Apply carries out the commands of one log entry and returns one result
	// for each. It is never called with an index at or below Applied(). An
	// error ends the peer.
	Apply(index uint64, commands [][]byte) ([]any, error)
	// Applied returns the index of the last Apply that the state contains.
	// After a crash it may be lower than before, but the state is that of the
	// index.
	Applied() uint64
	// Checkpoint writes the state, durably, into a folder that does not exist
	// yet. Entries wait for it, so it takes milliseconds.
	Checkpoint(dir string) error
	// Restore replaces the whole state by a checkpoint, atomically. It leaves
	// the folder as it is: that is our snapshot, which other peers may need.
	Restore(dir string) error
}

// verifier is a Machine that can look at a checkpoint: up to which entry it would
// be restored, and with whole, whether each byte is what was written.
type verifier interface {
	Verify(dir string, whole bool) (applied uint64, err error)
}

var errRestore = errors.New("restore snapshot")

var errStopped = errors.New("the peer no longer applies entries")

// applied is what the machine made of an entry, as raft hands it to the
// proposer.
type applied struct {
	results []any
	err     error
}

// fsm is the machine as raft sees it. Raft calls it from its FSM goroutine.
type fsm struct {
	machine Machine
	store   *snapshots
	logs    *fencedLogs
	mark    *watermark
	fatal   func(error)
	logger  *slog.Logger
	wrote   func(index uint64, bytes int) // an entry was applied; nil: nobody wants to know
	trail   func(index uint64)            // a snapshot up to index is made; nil likewise

	failed bool
	seen   uint64 // the last index that raft showed us since the start
}

// BatchingFSM, not for the batches, but because raft shows only such an FSM
// the entries that change the membership; without them WaitApplied could wait
// for an index that never comes.
var _ raft.BatchingFSM = (*fsm)(nil)

// ApplyBatch applies committed entries.
func (f *fsm) ApplyBatch(entries []*raft.Log) []any {
	out := make([]any, len(entries))
	for i, entry := range entries {
		out[i] = f.Apply(entry)
	}
	return out
}

// Apply applies one committed entry. After a failure nothing is applied any
// more, whatever raft still sends before it has shut down.
func (f *fsm) Apply(entry *raft.Log) any {
	if f.failed {
		return applied{err: errStopped}
	}
	var out applied
	if entry.Type == raft.LogCommand {
		out = f.applyCommands(entry)
		if out.err != nil {
			f.fail(out.err)
			return out
		}
	}
	f.seen = entry.Index
	f.mark.advance(entry.Index)
	if f.wrote != nil {
		f.wrote(entry.Index, len(entry.Data))
	}
	return out
}

func (f *fsm) applyCommands(entry *raft.Log) applied {
	commands, err := decodeEntry(entry.Data)
	if err != nil {
		return applied{err: fmt.Errorf("decode log entry %d: %w", entry.Index, err)}
	}
	// After a restart raft repeats what follows its last snapshot. The machine
	// keeps its own state, and knows most of that already.
	if len(commands) == 0 || entry.Index <= f.machine.Applied() {
		return applied{}
	}
	results, err := f.machine.Apply(entry.Index, commands)
	if err != nil {
		return applied{err: fmt.Errorf("apply log entry %d: %w", entry.Index, err)}
	}
	if len(results) != len(commands) {
		return applied{err: fmt.Errorf("apply log entry %d: %d results for %d commands", entry.Index, len(results), len(commands))}
	}
	return applied{results: results}
}

func (f *fsm) fail(err error) {
	f.failed = true
	f.fatal(err)
}

// Snapshot takes a checkpoint.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	if f.failed {
		return nil, errStopped
	}
	machineIndex := f.machine.Applied()
	if f.seen < machineIndex {
		// Raft would label the checkpoint with an index that the machine has
		// left behind; a peer that got it would seem to have lost its log.
		return nil, fmt.Errorf("take checkpoint: entries up to %d are being replayed, %d has come", machineIndex, f.seen)
	}
	dir, err := f.store.temporary()
	if err != nil {
		return nil, err
	}
	snapshot := &fsmSnapshot{store: f.store, dir: dir, machineIndex: machineIndex}
	if err := f.machine.Checkpoint(f.store.fs.PathJoin(dir, stateFolder)); err != nil {
		snapshot.Release()
		return nil, fmt.Errorf("take checkpoint: %w", err)
	}
	if f.trail != nil {
		f.trail(f.seen)
	}
	return snapshot, nil
}

// Restore makes the machine what a snapshot says. The snapshot was written to
// our own store before, so its folder is used as it is.
func (f *fsm) Restore(source io.ReadCloser) error {
	if f.failed {
		return errStopped
	}
	if wrapper, ok := source.(raft.ReadCloserWrapper); ok {
		source = wrapper.WrappedReadCloser()
	}
	reader, ok := source.(*snapshotReader)
	if !ok {
		return fmt.Errorf("restore snapshot: it comes from a %T instead of our store", source)
	}
	if err := f.restore(reader.meta, reader.dir()); err != nil {
		f.fail(err)
		return err
	}
	return nil
}

func (f *fsm) restore(meta snapshotMeta, dir string) error {
	if f.machine.Applied() < meta.MachineIndex {
		f.logger.Info("restoring the state from a snapshot", "id", meta.ID, "index", meta.Index)
		if err := f.machine.Restore(dir); err != nil {
			return fmt.Errorf("%w %s: %w", errRestore, meta.ID, err)
		}
		if got := f.machine.Applied(); got != meta.MachineIndex {
			return fmt.Errorf("%w %s: the state is at index %d instead of %d", errRestore, meta.ID, got, meta.MachineIndex)
		}
	}
	if err := f.logs.reconcile(meta.Index, meta.Term); err != nil {
		return fmt.Errorf("restore snapshot %s: %w", meta.ID, err)
	}
	f.seen = max(f.seen, meta.Index)
	f.mark.advance(meta.Index)
	return nil
}

// fsmSnapshot is a checkpoint that raft may ask to be kept.
type fsmSnapshot struct {
	store        *snapshots
	dir          string // temporary
	machineIndex uint64
	adopted      bool
}

// Persist hands the checkpoint to a sink of our own store.
func (s *fsmSnapshot) Persist(target raft.SnapshotSink) error {
	own, ok := target.(*sink)
	if !ok {
		return fmt.Errorf("keep checkpoint: the sink is a %T instead of ours", target)
	}
	// The log before it is cut off on its strength.
	if err := s.store.verifyState(s.store.fs.PathJoin(s.dir, stateFolder), s.machineIndex, false); err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	s.adopted = true
	return own.adopt(s.dir, s.machineIndex)
}

// Release removes the checkpoint if no snapshot became of it.
func (s *fsmSnapshot) Release() {
	if s.adopted {
		return
	}
	if err := s.store.fs.RemoveAll(s.dir); err != nil {
		s.store.logger.Warn("cannot remove a checkpoint", "folder", s.dir, "error", err)
	}
}
