package node

import (
	"context"
	"fmt"

	blockstore "github.com/ipfs/boxo/blockstore"
)

// Sync makes the blocks that were written so far survive a crash: it returns
// when they are on the disk. An add calls it before it is acknowledged.
func (n *Node) Sync(ctx context.Context) error {
	o, ctx, done, err := n.begin(ctx, "sync blocks")
	if err != nil {
		return err
	}
	defer done()
	if err := o.core.Repo.Datastore().Sync(ctx, blockstore.BlockPrefix); err != nil {
		return ended(ctx, fmt.Errorf("sync blocks: %w", spaceError(err)))
	}
	return nil
}
