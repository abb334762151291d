package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/kubo/repo"

	"holdfast/api"
	"holdfast/node/internal/dag"
)

// spaceAge is how long a measurement of free space is believed; what is
// written meanwhile is subtracted.
const spaceAge = time.Second

// minReserve is what the other files of a peer may need at any moment: Pebble
// and the raft log allocate their next log files ahead, 18, 9, 9 and 64 MiB.
const minReserve = 160 << 20

// writtenTwice is how often a block goes to the disk before its first copy,
// in the write-ahead log, is given free: what was measured a moment ago is used
// up that much faster.
const writtenTwice = 2

// mendShare is the part of the reserve that blocks may take which replace damaged
// ones: what would free space cannot run while a pin has a hole (collecting needs
// to know what the block links to), so that hole must be mended on a full disk too.
const mendShare = 4

// space knows how many bytes of blocks may still be written.
type space struct {
	dir     string
	max     uint64 // StorageMax; 0: none
	reserve uint64 // configured; 0: by the size of the disk
	usage   func(context.Context) (uint64, error)

	mu       sync.Mutex
	enforced bool // not while the node opens: Kubo writes a block or two then
	at       time.Time
	free     uint64
	limit    string // what free is measured against, and what to do
	toMend   uint64 // free for blocks that replace damaged ones
	kept     uint64 // bytes of the disk that toMend is above
}

func newSpace(c Config, usage func(context.Context) (uint64, error)) *space {
	return &space{dir: c.Dir, max: c.StorageMax, reserve: c.Reserve, usage: usage}
}

// measure asks the disk and the repository. The lock is held.
func (s *space) measure(ctx context.Context) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(s.dir, &st); err != nil {
		return fmt.Errorf("ask for free space of %s: %w", s.dir, err)
	}
	free, total := st.Bavail*uint64(st.Bsize), st.Blocks*uint64(st.Bsize)
	reserve := s.reserve
	if reserve == 0 {
		reserve = min(max(total/100, minReserve), 2<<30)
	}
	kept := reserve - reserve/mendShare
	left, limit := free-min(free, reserve), "above the "+humanize.IBytes(reserve)+" of the disk that stay free; free some of the disk"
	if s.max > 0 {
		used, err := s.usage(ctx)
		if err != nil {
			return fmt.Errorf("ask for size of repository: %w", err)
		}
		if under := s.max - min(s.max, used); under < left {
			left, limit = under, "of the "+humanize.IBytes(s.max)+" that the repository may take; unpin something, or raise its maximum"
		}
	}
	s.at = time.Now()
	s.free, s.limit, s.toMend, s.kept = left, limit, free-min(free, kept), kept
	return nil
}

// current returns the free bytes, at most spaceAge old.
func (s *space) current(ctx context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.refresh(ctx)
	return s.free, err
}

func (s *space) refresh(ctx context.Context) error {
	if time.Since(s.at) < spaceAge {
		return nil
	}
	return s.measure(ctx)
}

// take admits a write of n bytes, or returns no_space. What mends, by writing
// over damaged blocks, is held to neither the maximum nor all of the reserve.
func (s *space) take(ctx context.Context, n uint64, mends bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.enforced {
		return nil
	}
	if err := s.refresh(ctx); err != nil {
		return err
	}
	free, limit := s.free, s.limit
	if mends {
		free, limit = s.toMend, "above the "+humanize.IBytes(s.kept)+" of the disk that stay free even of blocks that replace damaged ones; free some of the disk"
	}
	n *= writtenTwice
	if free < n || free == 0 {
		return api.Errorf(api.CodeNoSpace, "no space for %s of blocks in %s, which take %s until the log is given free: %s are left %s",
			humanize.IBytes(n/writtenTwice), s.dir, humanize.IBytes(n), humanize.IBytes(free), limit)
	}
	s.free -= min(s.free, n)
	s.toMend -= min(s.toMend, n)
	return nil
}

// enforce begins to refuse.
func (s *space) enforce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enforced = true
}

// forget makes the next question measure anew.
func (s *space) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = time.Time{}
}

// guardedStore refuses blocks for which there is no space, whoever writes
// them: a full disk would end the process (Pebble cannot lose a log write),
// and Kubo itself does not keep to StorageMax. Metadata always passes, so that
// unpinning and collecting work when space is short.
//
// What it reads of blocks is what their CIDs say, or an error.
type guardedStore struct {
	repo.Datastore
	space  *space
	damage *damage
	oneLog bool // blocks and metadata share one write-ahead log
}

// dirtyKey is the flag that Kubo's pinner sets before it changes anything and
// clears after a flush, each time with a sync of its own.
var dirtyKey = ds.NewKey("/pins/state/dirty")

// Sync leaves the pinner's flag to the flush between its two syncs: in one log,
// what was written before is not lost where what follows is kept.
func (g *guardedStore) Sync(ctx context.Context, key ds.Key) error {
	if g.oneLog && key == dirtyKey {
		return nil
	}
	return spaceError(g.Datastore.Sync(ctx, key))
}

func isBlock(key ds.Key) bool { return strings.HasPrefix(key.String(), "/blocks/") }

func (g *guardedStore) Put(ctx context.Context, key ds.Key, value []byte) error {
	if isBlock(key) {
		if err := g.space.take(ctx, uint64(len(value)), g.damage.known(key) != nil); err != nil {
			// Kubo writes anew what is there, such as the root of its files when it
			// closes; that needs no space.
			if has, _ := g.Has(ctx, key); has {
				return nil
			}
			return err
		}
	}
	if err := g.Datastore.Put(ctx, key, value); err != nil || !isBlock(key) {
		return spaceError(err)
	}
	return g.damage.mended(ctx, key)
}

func (g *guardedStore) Delete(ctx context.Context, key ds.Key) error {
	if err := g.Datastore.Delete(ctx, key); err != nil || !isBlock(key) {
		return spaceError(err)
	}
	return g.damage.mended(ctx, key)
}

// Get reads a value; that of a block is compared with its key.
func (g *guardedStore) Get(ctx context.Context, key ds.Key) ([]byte, error) {
	if !isBlock(key) {
		return g.Datastore.Get(ctx, key)
	}
	var value []byte
	err := g.readBlock(ctx, key, func() (err error) {
		if value, err = g.Datastore.Get(ctx, key); err == nil {
			err = compare(key, value)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	g.damage.verified.Add(1)
	if value == nil {
		value = []byte{}
	}
	return value, nil
}

// GetSize tells a value's size. That of a block is read, and not compared.
func (g *guardedStore) GetSize(ctx context.Context, key ds.Key) (int, error) {
	if !isBlock(key) {
		return g.Datastore.GetSize(ctx, key)
	}
	size := -1
	err := g.readBlock(ctx, key, func() (err error) {
		size, err = g.Datastore.GetSize(ctx, key)
		return err
	})
	if err != nil {
		return -1, err
	}
	return max(size, 0), nil
}

// Has says whether a block can be had from the store.
func (g *guardedStore) Has(ctx context.Context, key ds.Key) (bool, error) {
	if !isBlock(key) {
		return g.Datastore.Has(ctx, key)
	}
	has := false
	err := g.readBlock(ctx, key, func() (err error) {
		has, err = g.Datastore.Has(ctx, key)
		return err
	})
	if err == nil && !has {
		has = isNothing(key)
	}
	if isMissing(err) {
		return false, nil
	}
	return has, err
}

// sha256Nothing is the key of the block of no bytes under the hash that nearly
// all CIDs have, and sha256Start how the keys of that hash begin.
var (
	sha256Nothing = blockKey(dag.EmptyRaw).String()
	sha256Start   = sha256Nothing[:len("/blocks/CIQ")]
)

// isNothing says whether a key is that of the block of no bytes. It is asked of
// every block that is missing.
func isNothing(block ds.Key) bool {
	key := block.String()
	if len(key) == len(sha256Nothing) && strings.HasPrefix(key, sha256Start) {
		return key == sha256Nothing
	}
	c, ok := cidOfBlock(block)
	return ok && dag.Nothing(c)
}

// readBlock reads by read, which it repeats once where that looks like damage:
// a disk may err for a moment, and good bytes may just have been written.
func (g *guardedStore) readBlock(ctx context.Context, key ds.Key, read func() error) error {
	err := g.damage.known(key)
	if err == nil {
		err = read()
		if errors.Is(err, ds.ErrNotFound) && isNothing(key) {
			return nil // and what was read is empty
		}
		if err == nil || errors.Is(err, ds.ErrNotFound) {
			return err
		}
		if errors.Is(err, syscall.EIO) || errors.Is(err, errOtherBytes) {
			err = read()
		}
		if err != nil && !errors.Is(err, ds.ErrNotFound) {
			err = g.damage.judge(ctx, key, err)
		}
	}
	if err == nil || errors.Is(err, ds.ErrNotFound) {
		return err
	}
	readFailed(ctx, key, err, (*g.damage.online.Load())())
	return err
}

func (g *guardedStore) Batch(ctx context.Context) (ds.Batch, error) {
	b, err := g.Datastore.Batch(ctx)
	if err != nil {
		return nil, err
	}
	return &guardedBatch{Batch: b, store: g}, nil
}

// DiskUsage keeps the optional interface of the store below.
func (g *guardedStore) DiskUsage(ctx context.Context) (uint64, error) {
	return ds.DiskUsage(ctx, g.Datastore)
}

type guardedBatch struct {
	ds.Batch
	store  *guardedStore
	bytes  uint64
	blocks []ds.Key // written or deleted
	mends  *mending // nil: nothing damaged is written over

	deletes bool // a block: what is put after that must stay after it
}

// mending is the part of a batch that writes over damaged blocks.
type mending struct {
	ds.Batch
	bytes  uint64
	blocks []ds.Key
}

func (b *guardedBatch) Put(ctx context.Context, key ds.Key, value []byte) error {
	if !isBlock(key) {
		return b.Batch.Put(ctx, key, value)
	}
	if !b.deletes && b.store.damage.known(key) != nil {
		return b.putToMend(ctx, key, value)
	}
	b.bytes += uint64(len(value))
	b.blocks = append(b.blocks, key)
	return b.Batch.Put(ctx, key, value)
}

func (b *guardedBatch) putToMend(ctx context.Context, key ds.Key, value []byte) error {
	if b.mends == nil {
		inner, err := b.store.Datastore.Batch(ctx)
		if err != nil {
			return err
		}
		b.mends = &mending{Batch: inner}
	}
	b.mends.bytes += uint64(len(value))
	b.mends.blocks = append(b.mends.blocks, key)
	return b.mends.Put(ctx, key, value)
}

func (b *guardedBatch) Delete(ctx context.Context, key ds.Key) error {
	if isBlock(key) {
		b.blocks, b.deletes = append(b.blocks, key), true
	}
	return b.Batch.Delete(ctx, key)
}

// Commit writes what mends first: it may succeed where there is no space for the rest.
func (b *guardedBatch) Commit(ctx context.Context) error {
	if m := b.mends; m != nil {
		if err := b.commit(ctx, m.Batch, m.bytes, true, m.blocks); err != nil {
			return err
		}
	}
	return b.commit(ctx, b.Batch, b.bytes, false, b.blocks)
}

func (b *guardedBatch) commit(ctx context.Context, part ds.Batch, bytes uint64, mends bool, blocks []ds.Key) error {
	if bytes > 0 {
		if err := b.store.space.take(ctx, bytes, mends); err != nil {
			return err
		}
	}
	if err := part.Commit(ctx); err != nil {
		return spaceError(err)
	}
	return b.store.damage.mended(ctx, blocks...)
}

// spaceError gives a full disk its code.
func spaceError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return api.Errorf(api.CodeNoSpace, "the disk is full: %w", err)
	}
	return err
}
