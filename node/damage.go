package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	ipld "github.com/ipfs/go-ipld-format"

	"holdfast/api"
)

// damagedPrefix holds a record for every block that was found damaged, by its
// multihash: a crash must not let a hole in a pin be forgotten.
var damagedPrefix = ds.NewKey("/holdfast/damaged")

const (
	// damageLimit bounds how many damaged blocks are remembered. A disk with
	// more of them is beyond mending block by block: further ones are errors at
	// every read, and nothing else.
	damageLimit = 10_000
	// damageShown is how many of them are told of one by one.
	damageShown = 20
	// readErrorAge is how long a read that failed for a while is told of.
	readErrorAge = 10 * time.Minute
)

// damage knows the blocks of the store whose bytes are not what their CIDs say,
// or cannot be read. Such a block counts as missing, so that it can be fetched
// again, until good bytes have been written over it or it was removed. It stays
// where it is until then: whoever comes with better tools may still get at it. So no
// block is served or counted as present whose bytes are not its CID's (INV-BYTES).
type damage struct {
	store   ds.Datastore  // of the records
	changed chan struct{} // has room for one
	logger  *slog.Logger
	// online says whether another node is connected, who could have the block.
	online atomic.Pointer[func() bool]

	count atomic.Int64 // of reasons: nearly always none, and every read asks

	verified atomic.Uint64 // blocks that were read and are whole
	found    atomic.Uint64 // blocks that turned out to be damaged

	mu      sync.Mutex
	reasons map[ds.Key]string // by the block's key in the store
	more    bool              // there were more than damageLimit
	failed  error             // of the last read that failed otherwise
	at      time.Time         // when
}

// damagedError is what a read of a damaged block returns. Where another node
// is connected it is one of "not found", which makes those who read ask there.
type damagedError struct {
	cid    cid.Cid
	why    string
	online bool
}

func (e *damagedError) Error() string {
	return fmt.Sprintf("block %s is damaged on this peer's disk (%s); it must be fetched again from another peer", e.cid, e.why)
}

// Is makes errors.Is and ipld.IsNotFound find what it stands for.
func (e *damagedError) Is(target error) bool {
	_, notFound := target.(ipld.ErrNotFound)
	return notFound && e.online
}

// Unwrap gives it a code.
func (e *damagedError) Unwrap() error { return api.ErrUnavailable }

// isMissing says whether a block that could not be read has to be fetched.
func isMissing(err error) bool {
	var damaged *damagedError
	return errors.Is(err, ds.ErrNotFound) || ipld.IsNotFound(err) || errors.As(err, &damaged)
}

// openDamage reads what earlier runs found.
func openDamage(ctx context.Context, store ds.Datastore, changed chan struct{}, logger *slog.Logger) (*damage, error) {
	d := &damage{store: store, changed: changed, logger: logger, reasons: map[ds.Key]string{}}
	offline := func() bool { return false }
	d.online.Store(&offline)
	found, err := store.Query(ctx, query.Query{Prefix: damagedPrefix.String()})
	if err != nil {
		return nil, fmt.Errorf("list damaged blocks: %w", err)
	}
	defer found.Close()
	for r := range found.Next() {
		if r.Error != nil {
			return nil, fmt.Errorf("list damaged blocks: %w", r.Error)
		}
		d.reasons[ds.NewKey("/blocks/"+ds.RawKey(r.Key).BaseNamespace())] = string(r.Value)
	}
	d.count.Store(int64(len(d.reasons)))
	if len(d.reasons) > 0 {
		signal(changed)
	}
	return d, nil
}

func recordOf(block ds.Key) ds.Key { return damagedPrefix.ChildString(block.BaseNamespace()) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// known returns the error for a block that is damaged as far as is known, else nil.
func (d *damage) known(block ds.Key) error {
	if d.count.Load() == 0 {
		return nil
	}
	d.mu.Lock()
	why, ok := d.reasons[block]
	d.mu.Unlock()
	if !ok {
		return nil
	}
	return d.errorOf(block, why)
}

func (d *damage) errorOf(block ds.Key, why string) error {
	c, _ := cidOfBlock(block)
	return &damagedError{cid: c, why: why, online: (*d.online.Load())()}
}

// isDamage says whether an error of the store means that what it was to read is
// not there any more, rather than that it cannot be read just now.
func isDamage(err error) bool {
	return errors.Is(err, errOtherBytes) || pebble.IsCorruptionError(err) || errors.Is(err, syscall.EIO) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// judge takes an error of reading a block, and returns that for the reader.
func (d *damage) judge(ctx context.Context, block ds.Key, err error) error {
	if isDamage(err) {
		return d.add(ctx, block, err.Error())
	}
	if ctx.Err() == nil {
		d.mu.Lock()
		d.failed, d.at = err, time.Now()
		d.mu.Unlock()
	}
	return err
}

// errOtherBytes is what is wrong with a block that can be read and is another.
var errOtherBytes = errors.New("its bytes have another hash")

// compare checks a block's bytes against its key.
func compare(block ds.Key, data []byte) error {
	c, ok := cidOfBlock(block)
	if !ok {
		return nil // no block has such a key
	}
	// A hash that we do not know cannot be checked.
	if sum, err := c.Prefix().Sum(data); err == nil && !sum.Equals(c) {
		return errOtherBytes
	}
	return nil
}

// add remembers a block as damaged, here and on the disk, and returns the error
// for whoever wanted to read it.
func (d *damage) add(ctx context.Context, block ds.Key, why string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.reasons[block]; known {
		return d.errorOf(block, why)
	}
	if len(d.reasons) >= damageLimit {
		d.more = true
		return d.errorOf(block, why)
	}
	d.reasons[block] = why
	d.found.Add(1)
	d.count.Store(int64(len(d.reasons)))
	signal(d.changed)
	d.logger.Error("a block is damaged on the disk; it counts as missing until it was fetched again", "key", block, "why", why)
	// The reader's end must not keep it from being written.
	if err := writeSynced(context.WithoutCancel(ctx), d.store, recordOf(block), []byte(why)); err != nil {
		return errors.Join(d.errorOf(block, why), fmt.Errorf("remember damaged block: %w", err))
	}
	return d.errorOf(block, why)
}

// hole remembers that a block is gone which a pin needs, unless it came meanwhile.
func (d *damage) hole(ctx context.Context, block ds.Key) error {
	_ = d.add(ctx, block, "it is gone, and a pin needs it") // the error is for readers; the next collection finds it again
	if has, err := d.store.Has(ctx, block); err != nil || !has {
		return err
	}
	return d.mended(ctx, block)
}

// mended forgets blocks that were written anew or removed.
func (d *damage) mended(ctx context.Context, blocks ...ds.Key) error {
	if d.count.Load() == 0 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, block := range blocks {
		if _, ok := d.reasons[block]; !ok {
			continue
		}
		if err := d.store.Delete(ctx, recordOf(block)); err != nil {
			return fmt.Errorf("forget damaged block: %w", err)
		}
		delete(d.reasons, block)
		d.count.Store(int64(len(d.reasons)))
		d.more = false
	}
	return nil
}

// list returns the damaged blocks, in the order of their keys.
func (d *damage) list() []cid.Cid {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make([]cid.Cid, 0, len(d.reasons))
	for block := range d.reasons {
		if c, ok := cidOfBlock(block); ok {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) })
	return out
}

// cidOfBlock is the CID, under the raw codec, of a block's key in the store.
func cidOfBlock(block ds.Key) (cid.Cid, bool) {
	hash, err := dshelp.DsKeyToMultihash(ds.RawKey("/" + block.BaseNamespace()))
	if err != nil {
		return cid.Undef, false
	}
	return cid.NewCidV1(cid.Raw, hash), true
}

// Damaged lists the blocks that were found damaged on this disk and have not
// been replaced or collected since, also in earlier runs; their CIDs are of the
// raw codec, as the store does not know another. Each counts as missing:
// Complete is false for a pin that needs one, and Fetch gets it anew. None
// while the node is not open.
func (n *Node) Damaged() []cid.Cid {
	n.mu.Lock()
	o := n.open
	n.mu.Unlock()
	if o == nil {
		return nil
	}
	return o.damage.list()
}

// DamageFound receives after Damaged has grown, and once after the node was
// opened on a repository with damaged blocks. It has room for one signal: who
// receives looks at Damaged, and checks its pins with Complete.
func (n *Node) DamageFound() <-chan struct{} { return n.damageFound }

// conditions tells of damaged blocks, the first damageShown of them one by one,
// and of reads that failed lately.
func (d *damage) conditions(now time.Time) []api.Condition {
	all := d.list()
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []api.Condition
	for _, c := range all[:min(len(all), damageShown)] {
		out = append(out, api.Condition{Name: api.AlertDamage, Subject: c.String(), Message: fmt.Sprintf(
			"block %s is damaged on this peer's disk (%s); it counts as missing until it was fetched again from another peer; check the disk and the memory of the machine",
			c, d.reasons[blockKey(c)])})
	}
	if more := len(all) - damageShown; more > 0 {
		text := fmt.Sprintf("%d further blocks are damaged on this peer's disk; check it, and replace the peer if it goes on", more)
		if d.more {
			text = fmt.Sprintf("more than %d blocks are damaged on this peer's disk; replace the disk or the peer", damageLimit)
		}
		out = append(out, api.Condition{Name: api.AlertDamage, Message: text})
	}
	if d.failed != nil && now.Sub(d.at) < readErrorAge {
		out = append(out, api.Condition{Name: api.AlertRead, Message: fmt.Sprintf(
			"a block could not be read from this peer's disk at %s: %v; blocks that cannot be read are errors to whoever asks for them, and nothing is collected meanwhile",
			d.at.UTC().Format(time.RFC3339), d.failed)})
	}
	return out
}
