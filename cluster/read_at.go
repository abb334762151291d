package cluster

import (
	"context"
	"time"

	"holdfast/api"
)

// readWait is how long a read waits for this peer to catch up, unless its
// context ends before.
const readWait = 10 * time.Second

// ReadAt returns once reads of this peer show what a request asks for, and the
// log index that they show at least: everything up to there, perhaps more.
// Errors: no_leader, and unavailable when this peer does not get there in time;
// another one may.
func (c *Cluster) ReadAt(ctx context.Context, at api.ReadPoint) (uint64, error) {
	if at == (api.ReadPoint{}) {
		c.catchUp(ctx)
		return c.state.Applied(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, readWait)
	defer cancel()
	if at.Consistent {
		if err := c.Barrier(ctx); err != nil {
			return 0, err
		}
	}
	if at.Index > c.state.Applied() {
		if err := c.log.WaitApplied(ctx, at.Index); err != nil {
			return 0, api.Errorf(api.CodeUnavailable, "this peer has not reached index %d; ask again, or another peer: %w", at.Index, err)
		}
	}
	return c.state.Applied(), nil
}
