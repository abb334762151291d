package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/node/internal/dag"
)

const (
	// fetchWindow is how many blocks one fetch has asked for at a time. Peers
	// send about a megabyte ahead of its acknowledgement, so a window of big
	// blocks is not all in memory.
	fetchWindow = 512
	// storeBlocks and storeBytes bound what is written in one batch.
	storeBlocks = 256
	storeBytes  = 8 << 20
	// arrivalBuffer lets blocks gather while others are written.
	arrivalBuffer = 32
)

// Fetch brings every block of a pin into the local store: the whole DAG, or the
// one block of a direct pin. holders are who likely has it; content is asked of
// every connected peer. progress, which may be nil, is told how many blocks and
// bytes of the pin are local so far, from the calling goroutine.
//
// A session to which no block comes for StallTimeout is dropped and another
// begun; after StallLimit of them in a row the error is unavailable. Others are
// no_space and invalid (a block that cannot be decoded). What was fetched is
// kept from garbage collection until Pin, or for an hour.
func (n *Node) Fetch(ctx context.Context, pin api.Pin, holders []peer.AddrInfo, progress func(blocks, bytes uint64)) error {
	c := pin.Cid.Cid
	w, err := dag.NewWalk(c, pin.Mode != api.ModeDirect)
	if err != nil {
		return err
	}
	o, ctx, done, err := n.begin(ctx, "fetch "+c.String())
	if err != nil {
		return err
	}
	defer done()
	unprotect, err := n.protect(ctx, keepRoot(c, w.Recursive()))
	if err != nil {
		return ended(ctx, err)
	}
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	err = (&fetch{node: n, opened: o, walk: w, root: c, holders: holders, progress: progress}).run(ctx)
	unprotect(err == nil)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", c, ended(ctx, err))
	}
	return nil
}

// fetch is one call of Fetch.
type fetch struct {
	node     *Node
	opened   *opened
	walk     *dag.Walk
	root     cid.Cid
	holders  []peer.AddrInfo
	progress func(blocks, bytes uint64)

	missing []cid.Cid          // found missing, not asked for yet
	pending map[string]cid.Cid // asked for, by multihash
}

func (f *fetch) run(ctx context.Context) error {
	defer func() { f.progress(f.walk.Progress()) }()
	f.pending = map[string]cid.Cid{}
	if err := f.advance(ctx); err != nil || len(f.missing) == 0 {
		return err
	}
	f.node.connect(ctx, f.opened, f.holders)
	// Most pins are one small block: those of many callers are asked for together.
	if f.missing[0] == f.root {
		if b, ok := f.node.roots.get(ctx, f.root); ok {
			f.missing = nil
			if err := f.walk.Visit(b); err != nil {
				return err
			}
			if err := f.advance(ctx); err != nil {
				return err
			}
		}
	}
	for stalls := 0; len(f.missing) > 0; {
		before, _ := f.walk.Progress()
		err := f.session(ctx)
		if !errors.Is(err, errStalled) {
			return err
		}
		stalls++
		if after, _ := f.walk.Progress(); after > before {
			stalls = 0
		}
		if stalls >= f.node.config.StallLimit {
			return api.Errorf(api.CodeUnavailable, "no peer sent block %s within %s; it is not to be had from any connected peer now%s",
				f.missing[0], time.Duration(stalls)*f.node.config.StallTimeout, f.node.unasked(f.holders))
		}
		f.node.logger.Debug("fetch stalled; starting again", "cid", f.root, "missing", len(f.missing), "stalls", stalls)
		f.node.connect(ctx, f.opened, f.holders)
		if err := f.recheck(ctx); err != nil {
			return err
		}
	}
	return nil
}

var errStalled = errors.New("no block came")

// advance walks what is local until the window is full of missing blocks or
// nothing is left to look at.
func (f *fetch) advance(ctx context.Context) error {
	for n := 0; len(f.missing)+len(f.pending) < fetchWindow; n++ {
		if n%256 == 255 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			f.progress(f.walk.Progress())
		}
		c, ok := f.walk.Next()
		if !ok {
			return nil
		}
		if _, asked := f.pending[dag.Key(c)]; asked {
			if f.walk.NeedsContent(c) {
				// The same bytes were asked for under another codec: wait for
				// them, then look again.
				f.missing = append(f.missing, c)
			}
			continue
		}
		local, err := f.node.visitLocal(ctx, f.opened, f.walk, c)
		if err != nil {
			return err
		}
		if !local {
			f.missing = append(f.missing, c)
		}
	}
	return nil
}

// visitLocal visits a block if it is in the local store. It asks the disk, not
// what Kubo remembers of it.
func (n *Node) visitLocal(ctx context.Context, o *opened, w *dag.Walk, c cid.Cid) (bool, error) {
	if b, ok := dag.Identity(c); ok {
		return true, w.Visit(b)
	}
	if !w.NeedsContent(c) {
		size, err := o.store.GetSize(ctx, blockKey(c))
		if isMissing(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look for block %s: %w", c, err)
		}
		w.Leaf(size)
		return true, nil
	}
	return n.visitWhole(ctx, o, w, c)
}

// visitWhole is visitLocal for a block whose bytes are to be read and checked,
// whether or not they matter to the walk.
func (n *Node) visitWhole(ctx context.Context, o *opened, w *dag.Walk, c cid.Cid) (bool, error) {
	if b, ok := dag.Identity(c); ok {
		return true, w.Visit(b)
	}
	b, err := o.read(ctx, c)
	if isMissing(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read block %s: %w", c, err)
	}
	return true, w.Visit(b)
}

// read reads a block from the disk and checks it.
func (o *opened) read(ctx context.Context, c cid.Cid) (blocks.Block, error) {
	data, err := o.store.Get(ctx, blockKey(c))
	if err != nil {
		return nil, err
	}
	return blocks.NewBlockWithCid(data, c)
}

// recheck looks for what was missing again: it may have come by other ways.
func (f *fetch) recheck(ctx context.Context) error {
	missing := f.missing
	f.missing = nil
	for _, c := range missing {
		local, err := f.node.visitLocal(ctx, f.opened, f.walk, c)
		if err != nil {
			return err
		}
		if !local {
			f.missing = append(f.missing, c)
		}
	}
	return f.advance(ctx)
}

// session asks for what is missing, and for what it leads to, until nothing is
// missing (nil) or no block came for StallTimeout (errStalled; missing then
// holds what was not got).
func (f *fetch) session(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	arrivals := make(chan blocks.Block, arrivalBuffer)
	feeders := newFeeders(f.opened.core.Bitswap.NewSession(ctx), arrivals)
	defer feeders.wait()
	defer cancel()
	defer f.requeue()
	stall := time.NewTimer(f.node.config.StallTimeout)
	defer stall.Stop()
	for {
		if len(f.missing) > 0 && (len(f.pending) == 0 || len(f.missing) >= fetchWindow/8) {
			if err := f.ask(ctx, feeders); err != nil {
				return err
			}
		}
		if len(f.pending) == 0 {
			return nil
		}
		select {
		case b := <-arrivals:
			if err := f.store(ctx, gather(b, arrivals)); err != nil {
				return err
			}
			stall.Reset(f.node.config.StallTimeout)
		case <-stall.C:
			return errStalled
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ask requests the missing blocks. One that is pending already, under another
// CID, stays missing until that has come.
func (f *fetch) ask(ctx context.Context, feeders *feeders) error {
	var cids, later []cid.Cid
	for _, c := range f.missing {
		if _, asked := f.pending[dag.Key(c)]; asked {
			later = append(later, c)
			continue
		}
		f.pending[dag.Key(c)] = c
		cids = append(cids, c)
	}
	f.missing = later
	if len(cids) == 0 {
		return nil
	}
	return feeders.ask(ctx, cids)
}

// requeue makes what was asked for and did not come missing again.
func (f *fetch) requeue() {
	for k, c := range f.pending {
		f.missing = append(f.missing, c)
		delete(f.pending, k)
	}
}

// gather takes what else has arrived, up to one batch.
func gather(first blocks.Block, arrivals <-chan blocks.Block) []blocks.Block {
	batch, size := []blocks.Block{first}, len(first.RawData())
	for len(batch) < storeBlocks && size < storeBytes {
		select {
		case b := <-arrivals:
			batch, size = append(batch, b), size+len(b.RawData())
		default:
			return batch
		}
	}
	return batch
}

// store writes arrived blocks and goes on from them.
func (f *fetch) store(ctx context.Context, batch []blocks.Block) error {
	wanted := batch[:0]
	for _, b := range batch {
		c, ok := f.pending[dag.Key(b.Cid())]
		if !ok {
			continue
		}
		delete(f.pending, dag.Key(c))
		// The want's own CID decides how the block is decoded.
		b, err := blocks.NewBlockWithCid(b.RawData(), c)
		if err != nil {
			return fmt.Errorf("block %s: %w", c, err)
		}
		wanted = append(wanted, b)
	}
	if err := f.node.write(ctx, f.opened, wanted); err != nil {
		// They are not in the store: requeue would forget them.
		for _, b := range wanted {
			f.missing = append(f.missing, b.Cid())
		}
		return err
	}
	f.node.counters.fetch(wanted)
	for _, b := range wanted {
		if err := f.walk.Visit(b); err != nil {
			return err
		}
	}
	f.progress(f.walk.Progress())
	return f.advance(ctx)
}
