package consensus

import (
	"errors"
	"sync"

	"github.com/hashicorp/raft"
)

// entryOverhead is what an entry costs beside its data, in the log and on the
// way to a peer.
const entryOverhead = 64

// everyEntry is more entries than there will be.
const everyEntry = 1 << 60

// backlog bounds the log by its bytes. Raft counts entries, of which one can hold
// a pin or a thousand: with any number of them, ten million pins may lie in the
// log, and a peer that joins would be sent all of them one after the other; or
// next to nothing lies there, and by the time that a peer has received a large
// snapshot the log behind that is gone, so it is sent the next one, for ever.
//
// It knows nothing of the size of entries that were applied before the start;
// they stay until as much has come since as should be kept.
type backlog struct {
	floor int64  // see Config.TrailingBytes
	most  uint64 // see Config.TrailingLogs

	mu    sync.Mutex
	total int64         // bytes of entries since the start
	since int64         // total at the last snapshot
	marks []backlogMark // the oldest first, at least 1/64 of floor apart
}

// backlogMark says how much had come with the entries up to index.
type backlogMark struct {
	index uint64
	total int64
}

// add counts an applied entry.
func (b *backlog) add(index uint64, bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total += int64(bytes) + entryOverhead
	if n := len(b.marks); n == 0 || b.total-b.marks[n-1].total >= b.floor/64 {
		b.marks = append(b.marks, backlogMark{index: index, total: b.total})
	}
}

// budget is how much of the log may lie behind a snapshot: sending the log
// should cost no more than sending the snapshot instead, and outlast it.
func (b *backlog) budget(snapshotBytes int64) int64 { return max(b.floor, snapshotBytes/4) }

// due says whether so much has come since the last snapshot that the next one
// should be made.
func (b *backlog) due(snapshotBytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total-b.since >= b.budget(snapshotBytes)
}

// bytes is what has come since the start, and since the last snapshot.
func (b *backlog) bytes() (total, since int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total, b.total - b.since
}

// stale says whether a new peer would be sent much beside the last snapshot.
func (b *backlog) stale() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total-b.since >= b.floor/16
}

// snapshot notes that a snapshot is made now, at index, and returns how many of
// the entries up to there should be kept.
func (b *backlog) snapshot(index uint64, snapshotBytes int64) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since = b.total
	// What lies behind the last mark with enough after it is kept.
	enough := -1
	for i, mark := range b.marks {
		if b.total-mark.total < b.budget(snapshotBytes) {
			break
		}
		enough = i
	}
	keep := uint64(everyEntry)
	if enough >= 0 {
		b.marks = append([]backlogMark(nil), b.marks[enough:]...)
		keep = max(1, index-min(index, b.marks[0].index))
	}
	if b.most > 0 {
		keep = min(keep, b.most)
	}
	return keep
}

// wrote counts an applied entry.
func (l *Log) wrote(index uint64, bytes int) {
	l.backlog.add(index, bytes)
	select {
	case l.grown <- struct{}{}:
	default:
	}
}

// trail tells raft how many entries to keep behind the snapshot that is being
// made.
func (l *Log) trail(index uint64) {
	r := l.raft.Load()
	if r == nil {
		return // raft makes none before it has started
	}
	keep := l.backlog.snapshot(index, l.store.size.Load())
	config := r.ReloadableConfig()
	config.TrailingLogs = keep
	if err := r.ReloadConfig(config); err != nil {
		l.logger.Warn("the log cannot be cut as short as it should be", "entries", keep, "error", err)
	}
}

// runSnapshots makes snapshots when the log has grown by bytes, or when the newest
// is damaged; raft makes others by the number of entries.
func (l *Log) runSnapshots(r *raft.Raft) {
	for {
		select {
		case <-l.grown:
		case <-l.store.spoilt:
			l.snapshot(r, "the last one is damaged")
			continue
		case <-l.stopping:
			return
		}
		if !l.backlog.due(l.store.size.Load()) {
			continue
		}
		l.snapshot(r, "the log has grown")
	}
}

// freshen makes a snapshot for a peer that is about to join: entries that lie
// behind the last one have to be applied there one by one.
func (l *Log) freshen() {
	if r := l.raft.Load(); r != nil && l.backlog.stale() {
		l.snapshot(r, "a peer joins")
	}
}

// snapshot makes one. That it fails is no reason to stop: the log is longer then.
func (l *Log) snapshot(r *raft.Raft, why string) {
	err := r.Snapshot().Error()
	if err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) && !errors.Is(err, raft.ErrRaftShutdown) {
		l.logger.Warn("no snapshot was made", "why", why, "error", err)
	}
}
