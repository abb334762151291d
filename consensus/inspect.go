package consensus

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// Inspection is what Inspect found on the disk of a peer.
type Inspection struct {
	First, Last uint64 // of the log; 0: it is empty
	Snapshot    uint64 // index of the newest whole snapshot; 0: none
	// Unapplied are the entries with commands that the machine does not contain.
	// Whether they are committed only the cluster knows.
	Unapplied uint64
}

// Inspect reads the log and the snapshots of a peer that does not run and says
// what is wrong with them. Each entry is decoded, and the files of the
// snapshots must have the sizes that they are known to have; applied is the index of the machine. dir is
// that of Config. It changes nothing.
func Inspect(fs vfs.FS, dir string, logs raft.LogStore, applied uint64, report func(problem string)) (Inspection, error) {
	store := newSnapshots(fs, fs.PathJoin(dir, "snapshots"), slog.New(slog.DiscardHandler))
	out := Inspection{}
	if err := store.inspect(&out, report); err != nil {
		return out, err
	}
	var err error
	if out.First, err = logs.FirstIndex(); err != nil {
		return out, fmt.Errorf("read first index of the log: %w", err)
	}
	if out.Last, err = logs.LastIndex(); err != nil {
		return out, fmt.Errorf("read last index of the log: %w", err)
	}
	if out.First > out.Snapshot+1 {
		report(fmt.Sprintf("the log begins at %d, but the newest whole snapshot ends at %d", out.First, out.Snapshot))
	}
	if end := max(out.Last, out.Snapshot); applied > end {
		report(fmt.Sprintf("the pinset contains entry %d, but log and snapshots end at %d", applied, end))
	}
	for index := max(out.First, 1); index <= out.Last; index++ {
		var entry raft.Log
		if err := logs.GetLog(index, &entry); err != nil {
			report(fmt.Sprintf("log entry %d: %v", index, err))
			continue
		}
		if entry.Type != raft.LogCommand {
			continue
		}
		commands, err := decodeEntry(entry.Data)
		if err != nil {
			report(fmt.Sprintf("log entry %d: %v", index, err))
		} else if index > applied && len(commands) > 0 {
			out.Unapplied++
		}
	}
	return out, nil
}

// inspect reads the meta file of every snapshot and looks for its files.
func (s *snapshots) inspect(out *Inspection, report func(string)) error {
	names, err := s.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		meta, err := s.readMeta(name)
		if err != nil {
			report(fmt.Sprintf("snapshot %s: %v", name, err))
			continue
		}
		out.Snapshot = max(out.Snapshot, meta.Index)
	}
	return nil
}
