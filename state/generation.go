package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"holdfast/api"
	"holdfast/internal/fencefs"
	"holdfast/state/statepb"
)

// generation is one database with what is kept of it in memory. A pinset has
// one; Restore puts another in its place, and the old one lives on until its
// last reader is done.
type generation struct {
	db   *pebble.DB
	fs   vfs.FS
	dir  string
	refs int // guarded by Pinset.mu; the pinset itself holds one

	// doomed says that the folder goes when the last reader does. Guarded by
	// Pinset.mu.
	doomed bool

	// fence knows the first failure, after which the database must not be written.
	fence *fencefs.Fence

	// peers is the peer table: peer number n is at n-1. It only grows.
	peers atomic.Pointer[[]peer.ID]
	// numbers is the table read the other way. Only Apply uses it.
	numbers map[peer.ID]uint32
	// requests are the remembered request ids, some 100,000 of 40 bytes. Only
	// Apply uses them.
	requests map[request]seenAt

	present present // which CIDs may be pinned

	mu sync.RWMutex // guards what follows; written by Apply after its commit
	memory
	recent recent
}

// memory is the small part of the state that is held in memory beside its copy
// in the database, so that an Apply need not read it back.
type memory struct {
	meta     *statepb.Meta
	cluster  string
	peerPins map[uint32]uint64 // pins allocated, by peer number
	members  map[peer.ID]api.Member
	tokens   map[[32]byte]token
}

type token struct {
	expiresAt int64 // unix seconds
	usedBy    peer.ID
	reusable  bool
}

// memTableBytes are some ten thousand pins between two flushes; twice that waits
// at worst while one is written. It bounds both memory and the log to replay.
const memTableBytes = 8 << 20

// options tunes Pebble for a peer that has other things to do with its memory.
// The pinset is written in batches of up to a thousand small values in random
// order of keys, read mostly by single keys that are absent (is this CID
// pinned? was this request seen?) and listed now and then.
//
// found is called when bytes are met that are not what was written.
func options(fence *fencefs.Fence, cache *pebble.Cache, found func(error)) *pebble.Options {
	o := &pebble.Options{
		FS: fence,
		// Shared by the old and the new database during a restore.
		Cache: cache,
		// A peer of an older version must be able to open our checkpoint, so this
		// is raised only by a release that says so, never by a new Pebble alone.
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		MemTableSize:                memTableBytes,
		MemTableStopWritesThreshold: 4,
		// Compact late, from 16 sublevels on (Pebble begins at half of what it is told):
		// keys in random order make each compaction write the next level anew. Half as
		// late, a million and a half new pins take a fifth more processor time, at 4 more
		// than half. Twice as late they take less again, but reads pay for every
		// sublevel, and updates and unpins, which read what is there, take more. Stop
		// later still: a stalled Apply stalls the whole peer, and compaction catches up
		// after a burst.
		L0CompactionThreshold: 32,
		L0StopWritesThreshold: 128,
		// Handles, not memory, are the limit: a ten-million-pin set has some
		// hundreds of tables.
		MaxOpenFiles: 512,
		// Writes are not synced one by one. Writing back as we go keeps the sync of
		// a checkpoint short.
		WALBytesPerSync: 1 << 20,
		// The machine also runs an IPFS node.
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		Logger:                     fatalLogger{fence},
		EventListener: &pebble.EventListener{
			DataCorruption: func(info pebble.DataCorruptionInfo) { found(info.Details) },
		},
	}
	// Absent keys are the common case of a lookup: bloom filters answer most of
	// them without reading a block, for 10 bits a key.
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// Names, metadata and origins repeat a lot; the bottom level, where nine of
	// ten pins lie, is worth zstd.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionBalanced })
	return o
}

// fatalLogger hears of what Pebble cannot go on after. We refuse the next
// Apply then, so that the peer stops in order.
type fatalLogger struct{ fence *fencefs.Fence }

func (fatalLogger) Infof(string, ...any)                {}
func (fatalLogger) Errorf(string, ...any)               {}
func (l fatalLogger) Fatalf(format string, args ...any) { l.fence.Fatalf(format, args...) }

// openGeneration opens the database in dir. With create, one that is empty or
// missing becomes a new pinset; without, that is an error.
func openGeneration(fs vfs.FS, dir string, cache *pebble.Cache, create bool, known uint32) (*generation, error) {
	g := &generation{fs: fs, dir: dir, refs: 1, fence: fencefs.New(fs, dir, "pinset"), recent: newRecent()}
	o := options(g.fence, cache, g.corrupt)
	o.ErrorIfNotExists = !create
	var err error
	if g.db, err = pebble.Open(dir, o); err != nil {
		return nil, fencefs.NoSpace(dir, damaged(fmt.Errorf("open pinset database %s: %w", dir, errors.Join(g.fence.Err(), err))))
	}
	if err := g.fence.Err(); err != nil {
		return nil, errors.Join(err, g.db.Close())
	}
	if err := g.checkFormat(create); err != nil {
		return nil, errors.Join(err, g.db.Close())
	}
	if err := g.load(); err != nil {
		return nil, errors.Join(damaged(fmt.Errorf("read pinset database %s: %w", dir, err)), g.db.Close())
	}
	if used := g.meta.CommandVersion; used > known {
		return nil, errors.Join(api.Errorf(api.CodeInvalid, "the cluster of the pinset in %s uses commands of version %d, and this program knows them up to version %d; install the version that the other peers run", dir, used, known), g.db.Close())
	}
	return g, nil
}

func (g *generation) checkFormat(create bool) error {
	value, found, err := get(g.db, keyFormat)
	if err != nil {
		return fmt.Errorf("read format of the pinset: %w", err)
	}
	if found {
		if len(value) != 4 {
			return fmt.Errorf("format of the pinset in %s has %d bytes, want 4", g.dir, len(value))
		}
		if got := binary.BigEndian.Uint32(value); got > formatVersion {
			return api.Errorf(api.CodeInvalid, "the pinset in %s has format %d, this program knows formats up to %d; start the newer version that wrote it", g.dir, got, formatVersion)
		}
		return nil
	}
	empty, err := g.empty()
	if err != nil {
		return err
	}
	if !create || !empty {
		return api.Errorf(api.CodeInvalid, "%s holds no pinset (no format is recorded)", g.dir)
	}
	g.present.set.Begin(0)
	g.present.set.Complete()
	value = binary.BigEndian.AppendUint32(nil, formatVersion)
	if err := g.db.Set(keyFormat, value, pebble.Sync); err != nil {
		return fmt.Errorf("write format of the pinset: %w", err)
	}
	return g.fence.Err()
}

func (g *generation) empty() (bool, error) {
	it, err := g.db.NewIter(nil)
	if err != nil {
		return false, fmt.Errorf("read pinset: %w", err)
	}
	empty := !it.First()
	return empty, errors.Join(it.Error(), it.Close())
}

// load reads what is held in memory: a few values, and one per peer and token.
func (g *generation) load() error {
	m, err := loadMeta(g.db)
	if err != nil {
		return err
	}
	g.meta = m
	cluster, _, err := get(g.db, keyCluster)
	if err != nil {
		return err
	}
	g.cluster = string(cluster)
	if g.requests, err = loadRequests(g.db); err != nil {
		return err
	}
	if err := g.loadPeers(); err != nil {
		return err
	}
	if err := g.loadMembers(); err != nil {
		return err
	}
	return g.loadTokens()
}

// loadPeers reads the peer table and the counts by peer.
func (g *generation) loadPeers() error {
	peers := make([]peer.ID, 0, g.meta.Peers)
	g.numbers = map[peer.ID]uint32{}
	g.peerPins = map[uint32]uint64{}
	err := scanFixed(g.db, prefixPeer, 4, func(key, value []byte) error {
		id := peer.ID(value)
		if number := binary.BigEndian.Uint32(key); int(number) != len(peers)+1 {
			return fmt.Errorf("peer table: number %d follows %d", number, len(peers))
		}
		peers = append(peers, id)
		g.numbers[id] = uint32(len(peers))
		return nil
	})
	if err != nil {
		return err
	}
	if int(g.meta.Peers) != len(peers) {
		return fmt.Errorf("peer table has %d entries, want %d", len(peers), g.meta.Peers)
	}
	g.peers.Store(&peers)
	return scanFixed(g.db, prefixPeerPins, 4, func(key, value []byte) error {
		number := binary.BigEndian.Uint32(key)
		if len(value) != 8 || number == everywhere || int(number) > len(peers) {
			return fmt.Errorf("count of peer %d, of %d, has %d bytes", number, len(peers), len(value))
		}
		g.peerPins[number] = binary.BigEndian.Uint64(value)
		return nil
	})
}

func (g *generation) loadMembers() error {
	g.members = map[peer.ID]api.Member{}
	return scan(g.db, []byte{prefixMember}, func(_, value []byte) error {
		stored := &statepb.Member{}
		if err := proto.Unmarshal(value, stored); err != nil {
			return fmt.Errorf("decode member: %w", err)
		}
		member, err := memberFromProto(stored)
		g.members[member.ID] = member
		return err
	})
}

func (g *generation) loadTokens() error {
	g.tokens = map[[32]byte]token{}
	return scanFixed(g.db, prefixToken, 32, func(key, value []byte) error {
		stored := &statepb.Token{}
		if err := proto.Unmarshal(value, stored); err != nil {
			return fmt.Errorf("decode token: %w", err)
		}
		g.tokens[[32]byte(key)] = token{expiresAt: stored.ExpiresAt, usedBy: peer.ID(stored.UsedBy), reusable: stored.Reusable}
		return nil
	})
}

// copyCounts returns copies of what Stats shows. Caller holds mu.
func (g *generation) copyCounts() (*statepb.Meta, map[uint32]uint64) {
	return proto.Clone(g.meta).(*statepb.Meta), maps.Clone(g.peerPins)
}

func loadMeta(r pebble.Reader) (*statepb.Meta, error) {
	m := &statepb.Meta{}
	value, _, err := get(r, keyMeta)
	if err != nil {
		return nil, err
	}
	if err := proto.Unmarshal(value, m); err != nil {
		return nil, fmt.Errorf("decode meta: %w", err)
	}
	for len(m.Types) < len(typeNames) {
		m.Types = append(m.Types, 0)
	}
	return m, nil
}

// get returns a copy of a value.
func get(r pebble.Reader, key []byte) ([]byte, bool, error) {
	value, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %q: %w", key[:1], err)
	}
	value = append(make([]byte, 0, len(value)), value...)
	return value, true, closer.Close()
}

// scan calls fn for every key below a prefix, in order. The slices are valid
// only during the call.
func scan(r pebble.Reader, prefix []byte, fn func(key, value []byte) error) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return fmt.Errorf("read %q: %w", prefix[:1], err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			err = fn(it.Key(), value)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// scanFixed is scan for keys that have size bytes after the prefix, which are
// what fn gets.
func scanFixed(r pebble.Reader, prefix byte, size int, fn func(key, value []byte) error) error {
	return scan(r, []byte{prefix}, func(key, value []byte) error {
		if len(key) != 1+size {
			return fmt.Errorf("key %x has %d bytes, want %d", key, len(key), 1+size)
		}
		return fn(key[1:], value)
	})
}
