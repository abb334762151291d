package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ipfs/boxo/exchange"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"holdfast/node/internal/dag"
)

// fetchedGrace is how long what was fetched is kept without a pin.
const fetchedGrace = time.Hour

// PutBlocks writes blocks whose content the caller has verified against their
// CIDs. When it returns they are in the store (not yet synced to the disk: Pin
// does that). The error is no_space when there is no room for all of them.
func (n *Node) PutBlocks(ctx context.Context, bs []blocks.Block) error {
	o, ctx, done, err := n.begin(ctx, "write blocks")
	if err != nil {
		return err
	}
	defer done()
	return ended(ctx, n.write(ctx, o, bs))
}

// Lease holds off garbage collection until released, so that blocks can be
// written before the pin that keeps them. It counts for LeaseLinger longer.
func (n *Node) Lease(ctx context.Context) (release func(), err error) {
	_, ctx, done, err := n.begin(ctx, "begin an add")
	if err != nil {
		return nil, err
	}
	defer done()
	release, err = n.gate.Lease(ctx, "add", n.config.LeaseLinger)
	return release, ended(ctx, err)
}

// write stores blocks between collections and offers them to waiting peers.
func (n *Node) write(ctx context.Context, o *opened, bs []blocks.Block) error {
	if len(bs) == 0 {
		return nil
	}
	release, err := n.gate.Touch(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := o.core.Blockstore.PutMany(ctx, bs); err != nil {
		return fmt.Errorf("write %d blocks: %w", len(bs), spaceError(err))
	}
	if err := o.core.Bitswap.NotifyNewBlocks(ctx, bs...); err != nil {
		return fmt.Errorf("offer %d blocks: %w", len(bs), err)
	}
	return nil
}

// protect keeps what is below a root from garbage collection while it is being
// fetched, and, when that went well, until it is pinned.
func (n *Node) protect(ctx context.Context, root cid.Cid) (unprotect func(fetched bool), err error) {
	release, err := n.gate.Touch(ctx) // not in the middle of a collection
	if err != nil {
		return nil, err
	}
	defer release()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fetching[root]++
	return func(fetched bool) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.fetching[root]--; n.fetching[root] == 0 {
			delete(n.fetching, root)
		}
		if fetched {
			n.fetched[root] = time.Now().Add(fetchedGrace)
		}
	}, nil
}

// settled forgets a root that needs no protection any longer.
func (n *Node) settled(c cid.Cid) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.fetched, c)
	delete(n.fetched, keepRoot(c, false))
}

// keepRoot is the CID that makes garbage collection keep a pin: it walks from
// there. Under the raw codec a block has no links, which is what a direct pin
// means, and what must be said of blocks that collection could not decode.
func keepRoot(c cid.Cid, recursive bool) cid.Cid {
	if recursive && dag.CheckCodec(c) == nil {
		return c
	}
	return cid.NewCidV1(cid.Raw, c.Hash())
}

// protected returns the roots that a collection must keep without a pin.
func (n *Node) protected(now time.Time) []cid.Cid {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []cid.Cid
	for c := range n.fetching {
		out = append(out, c)
	}
	for c, until := range n.fetched {
		if now.After(until) {
			delete(n.fetched, c)
			continue
		}
		out = append(out, c)
	}
	return out
}

// feeders bring the blocks of several requests of one session together.
type feeders struct {
	session exchange.Fetcher
	out     chan<- blocks.Block
	group   sync.WaitGroup
}

func newFeeders(session exchange.Fetcher, out chan<- blocks.Block) *feeders {
	return &feeders{session: session, out: out}
}

// ask requests blocks until ctx ends.
func (f *feeders) ask(ctx context.Context, cids []cid.Cid) error {
	in, err := f.session.GetBlocks(ctx, cids)
	if err != nil {
		return fmt.Errorf("ask for %d blocks: %w", len(cids), err)
	}
	f.group.Go(func() {
		for b := range in {
			select {
			case f.out <- b:
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

// wait returns when all requests have ended, which their contexts make them do.
func (f *feeders) wait() { f.group.Wait() }
