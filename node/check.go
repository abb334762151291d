package node

import (
	"context"
	"fmt"

	"github.com/ipfs/go-cid"

	"holdfast/api"
	"holdfast/node/internal/dag"
)

// Check looks at so many blocks, or reads so many bytes, between two calls of pace.
const (
	checkStep  = 64
	checkBytes = 1 << 20
)

// Kept says of each CID whether the node has a pin of ours for it. It asks
// nothing about blocks, and is cheap.
func (n *Node) Kept(ctx context.Context, cids []cid.Cid) ([]bool, error) {
	o, ctx, done, err := n.begin(ctx, "look up pins")
	if err != nil {
		return nil, err
	}
	defer done()
	kept := make([]bool, len(cids))
	for i, c := range cids {
		if kept[i], err = o.core.Repo.Datastore().Has(ctx, ownKey(c)); err != nil {
			return nil, fmt.Errorf("look up pin %s: %w", c, ended(ctx, err))
		}
	}
	return kept, nil
}

// Check walks what a pin keeps, reading every block, and asks nobody for it. It
// returns the first block that is not in the local store, or is damaged there,
// or the undefined CID if all are well. pace, which may be nil, is told how many
// blocks and bytes were read since its last call, and may wait; its error ends the
// walk.
func (n *Node) Check(ctx context.Context, pin api.Pin, pace func(ctx context.Context, blocks int, bytes uint64) error) (missing cid.Cid, err error) {
	w, err := dag.NewWalk(pin.Cid.Cid, pin.Mode != api.ModeDirect)
	if err != nil {
		return cid.Undef, err
	}
	o, ctx, done, err := n.begin(ctx, "check "+pin.Cid.String())
	if err != nil {
		return cid.Undef, err
	}
	defer done()
	blocks, read := 1, uint64(0)
	for ; ; blocks++ {
		c, more := w.Next()
		_, bytes := w.Progress()
		if !more || blocks >= checkStep || bytes-read >= checkBytes {
			if pace != nil {
				if err := pace(ctx, blocks, bytes-read); err != nil {
					return cid.Undef, ended(ctx, err)
				}
			}
			blocks, read = 0, bytes
		}
		if !more {
			return cid.Undef, nil
		}
		if ctx.Err() != nil {
			return cid.Undef, ended(ctx, ctx.Err())
		}
		local, err := n.visitWhole(ctx, o, w, c)
		if err != nil {
			return cid.Undef, err
		}
		if !local {
			return c, nil
		}
	}
}

// Complete is Check without a pace.
func (n *Node) Complete(ctx context.Context, pin api.Pin) (complete bool, missing cid.Cid, err error) {
	missing, err = n.Check(ctx, pin, nil)
	return err == nil && !missing.Defined(), missing, err
}
