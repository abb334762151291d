package pintracker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"

	"holdfast/api"
	"holdfast/internal/fencefs"
	"holdfast/internal/presence"
)

// The layout of the store. CIDs are in their bytes, so that all orders are the
// pinset's; times and numbers are big-endian.
//
//	m counts            number of records by status, 32 × uint64, then by kind
//	m index             the last index of the source that was looked at, uint64
//	m repository        the ID of the node's repository that the records speak of
//	m version           version of this layout, uint64
//	m walk              how far the slow walk has got: see walkState
//	q <class> <due> CID what waits, in the order in which it is taken
//	r CID               the record
//	s <status> CID      index by status
const (
	prefixQueue  = 'q'
	prefixRecord = 'r'
	prefixStatus = 's'

	layoutVersion = 1
	statusBits    = 32
)

var (
	keyCounts  = []byte("mcounts")
	keyIndex   = []byte("mindex")
	keyVersion = []byte("mversion")
	keyRepo    = []byte("mrepository")
	keyWalk    = []byte("mwalk")
)

// store keeps the records. Writers must hold Tracker.mu, so that a record is
// read and written by one at a time; anyone may read.
//
// Nothing is synced to disk but by fence. After a crash the store is a
// consistent prefix of what was written (Pebble replays its log in order, and
// each batch whole), so it may be behind. Being behind is harmless, because
// the diff at the start compares it with the pinset again, but for two things
// that no diff can see; fence keeps those.
type store struct {
	db *pebble.DB

	// disk knows the first write that failed, after which nothing more is
	// written and every change is refused.
	disk *fencefs.Fence

	life   sync.RWMutex // held for reading while db is used
	closed bool

	fencing sync.Mutex
	synced  int64 // all that was written up to this tick is on disk; guarded by fencing

	placed [classes]bool // a place was given in the class since its queue was read; under Tracker.mu

	present presence.Set // which CIDs have a record; under Tracker.mu

	counting sync.Mutex
	counts   [statusBits]uint64
	kinds    [kinds]uint64
	index    uint64
}

// memTableBytes is how much is written between two flushes.
const memTableBytes = 8 << 20

func openStore(fs vfs.FS, dir string, cacheBytes int64, logger *slog.Logger) (*store, error) {
	// Pebble takes what its memtables need, two of them as a rule, out of the cache.
	cache := pebble.NewCache(cacheBytes + 2*memTableBytes)
	defer cache.Unref()
	disk := fencefs.New(fs, dir, "status store")
	options := &pebble.Options{FS: disk, Cache: cache, MemTableSize: memTableBytes,
		// As in the pinset: from 16 sublevels on, since what is looked up most is not
		// there, and that is known from memory.
		L0CompactionThreshold: 32, L0StopWritesThreshold: 128,
		FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLogger{logger, disk},
		EventListener: &pebble.EventListener{DataCorruption: func(info pebble.DataCorruptionInfo) {
			disk.Fail(fmt.Errorf("status store is corrupt: %w", info.Details))
		}}}
	for i := range options.Levels {
		options.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(dir, options)
	if err != nil {
		return nil, fencefs.NoSpace(dir, fmt.Errorf("open status store %s: %w", dir, errors.Join(disk.Err(), err)))
	}
	s := &store{db: db, disk: disk}
	if err := errors.Join(s.load(), disk.Err()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

// load reads the counters, or writes the version of a new store.
func (s *store) load() error {
	version, err := s.number(keyVersion)
	if err != nil {
		return err
	}
	if version > layoutVersion {
		return api.Errorf(api.CodeInvalid, "the status store has layout %d; this release knows %d: use a newer release", version, layoutVersion)
	}
	if version == 0 {
		err := s.db.Set(keyVersion, binary.BigEndian.AppendUint64(nil, layoutVersion), pebble.Sync)
		if err != nil {
			return fmt.Errorf("write layout version: %w", err)
		}
	}
	if s.index, err = s.number(keyIndex); err != nil {
		return err
	}
	data, closer, err := s.db.Get(keyCounts)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read counters: %w", err)
	}
	for i := 0; i < statusBits && len(data) >= 8*(i+1); i++ {
		s.counts[i] = binary.BigEndian.Uint64(data[8*i:])
	}
	whole := len(data) >= 8*(statusBits+kinds)
	for i := 0; i < kinds && whole; i++ {
		s.kinds[i] = binary.BigEndian.Uint64(data[8*(statusBits+i):])
	}
	if err := closer.Close(); err != nil || whole {
		return err
	}
	return s.recount()
}

// recount counts the kinds of the records of a release that did not.
func (s *store) recount() (err error) {
	it, err := s.scan([]byte{prefixRecord}, nil, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		rec, err := decodeRecord(it.Value())
		if err != nil {
			return err
		}
		for i, is := range rec.isOf() {
			if is {
				s.kinds[i]++
			}
		}
	}
	return it.Error()
}

// text reads a key's value; "": there is none.
func (s *store) text(key []byte) (text string, err error) {
	err = s.use(func() error {
		data, closer, err := s.db.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %q: %w", key, err)
		}
		text = string(data)
		return closer.Close()
	})
	return text, err
}

// setText writes a key behind all that was written before.
func (s *store) setText(key []byte, text string, how *pebble.WriteOptions) error {
	if err := s.change(func() error { return s.db.Set(key, []byte(text), how) }); err != nil {
		return fmt.Errorf("write %q: %w", key, err)
	}
	return nil
}

func (s *store) number(key []byte) (uint64, error) {
	data, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %q: %w", key, err)
	}
	if len(data) != 8 {
		return 0, errors.Join(fmt.Errorf("read %q: %d bytes instead of 8", key, len(data)), closer.Close())
	}
	return binary.BigEndian.Uint64(data), closer.Close()
}

// use lets f read or write the database unless it is closed.
func (s *store) use(f func() error) error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return api.Errorf(api.CodeUnavailable, "the pin tracker is shut down")
	}
	return f()
}

// change is use for what writes: it fails when this write or one before did not
// reach the disk.
func (s *store) change(f func() error) error {
	return s.use(func() error {
		if err := s.disk.Err(); err != nil {
			return err
		}
		err := f()
		if failed := s.disk.Err(); failed != nil {
			return failed // the reason of err, if there is one
		}
		return err
	})
}

func (s *store) close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("close status store: %w", err)
	}
	return nil
}

// records is how many match the filter; StatusUndefined counts all.
func (s *store) records(filter api.TrackerStatus) (n uint64) {
	s.counting.Lock()
	defer s.counting.Unlock()
	for i, count := range s.counts {
		if filter == api.StatusUndefined || filter&(1<<i) != 0 {
			n += count
		}
	}
	return n
}

// get reads the record of a CID.
func (s *store) get(key string) (rec record, known bool, err error) {
	err = s.use(func() error {
		rec, known, err = s.read(key)
		return err
	})
	return rec, known, err
}

// read is get for those who use the database already.
func (s *store) read(key string) (record, bool, error) {
	data, closer, err := s.db.Get(append([]byte{prefixRecord}, key...))
	if errors.Is(err, pebble.ErrNotFound) {
		return record{}, false, nil
	}
	if err != nil {
		return record{}, false, fmt.Errorf("read status record: %w", err)
	}
	rec, err := decodeRecord(data)
	return rec, err == nil, errors.Join(err, closer.Close())
}

// iterateFrom is the number of records from which an iterator is worth its
// making.
const iterateFrom = 32

// each calls fn with the records of CIDs, which are in order. Under Tracker.mu.
func (s *store) each(cids []cid.Cid, fn func(i int, rec record, known bool) error) error {
	may := make([]bool, len(cids))
	n := 0
	for i, c := range cids {
		if may[i] = s.present.May(c.KeyString()); may[i] {
			n++
		}
	}
	lookUp := func(read func(string) (record, bool, error)) (err error) {
		for i, c := range cids {
			var rec record
			known := false
			if may[i] {
				rec, known, err = read(c.KeyString())
			}
			if err == nil {
				err = fn(i, rec, known)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return s.use(func() error {
		if n < iterateFrom {
			return lookUp(s.read)
		}
		it, err := s.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
		if err != nil {
			return fmt.Errorf("read status records: %w", err)
		}
		err = lookUp(func(c string) (record, bool, error) { return s.seek(it, c) })
		return errors.Join(err, it.Close())
	})
}

// seek is read for those who have an iterator, and read in order.
func (s *store) seek(it *pebble.Iterator, c string) (record, bool, error) {
	key := append([]byte{prefixRecord}, c...)
	if !it.SeekPrefixGE(key) || !bytes.Equal(it.Key(), key) {
		return record{}, false, it.Error()
	}
	data, err := it.ValueAndErr()
	if err != nil {
		return record{}, false, fmt.Errorf("read status record: %w", err)
	}
	rec, err := decodeRecord(data)
	return rec, err == nil, err
}

// fence returns when all that was written up to a tick is on disk. It comes
// before every call that changes the node's pins, for the tick at which the
// records concerned were queued, and keeps these invariants through crashes:
//
//   - A record that says pinned speaks of a pin that the node has. It is
//     written after Node.Pin returned, and the node loses a pin only behind a
//     fence. Without it, pinned, unpinned (that record lost in the crash) and
//     pinned again would look like pinned all along.
//   - Each pin that this tracker made has a record. Without it, pinned (that
//     record lost) and removed from the pinset would leave a pin in the node
//     that nobody ever takes away.
//
// One sync covers all that is queued by then, so a backlog costs next to none.
// last returns the present tick, behind which nothing is still being written.
func (s *store) fence(tick int64, last func() int64) error {
	s.fencing.Lock()
	defer s.fencing.Unlock()
	if tick <= s.synced {
		return nil
	}
	now := last()
	err := s.change(func() error { return s.db.LogData(nil, pebble.Sync) })
	if err != nil {
		return fmt.Errorf("sync status store: %w", err)
	}
	s.synced = now
	return nil
}

// pebbleLogger gives Pebble's words to slog. What it cannot go on after makes
// the next change fail.
type pebbleLogger struct {
	*slog.Logger
	disk *fencefs.Fence
}

func (l pebbleLogger) Infof(format string, args ...any) {
	l.Debug("status store: " + fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.Error("status store: " + fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	l.Error("status store: " + fmt.Sprintf(format, args...))
	l.disk.Fatalf(format, args...)
}
