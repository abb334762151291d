package cluster

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/peer"
)

// RepairStats tell how the repair of this peer goes. All but the counters is of
// the present leader alone.
type RepairStats struct {
	LostPeers    int    // that hold replicas and were away for longer than the grace period
	LostReplicas uint64 // that the pinset still has on them; repair places them elsewhere
	Moved        uint64 // pins that got other or further replicas, since the start
	Failed       uint64 // attempts that found no place, or no majority
}

// repairs count what all terms of leadership of this peer did.
type repairs struct {
	moved, failed atomic.Uint64
	lost          atomic.Pointer[[]peer.ID]
}

// see notes who is lost now.
func (r *repairs) see(lost losses) {
	ids := slices.Collect(maps.Keys(lost))
	r.lost.Store(&ids)
}

// Repairs returns a picture of now.
func (c *Cluster) Repairs() RepairStats {
	out := RepairStats{Moved: c.repairs.moved.Load(), Failed: c.repairs.failed.Load()}
	if lost := c.repairs.lost.Load(); lost != nil {
		pins := c.state.Stats().Peers
		out.LostPeers = len(*lost)
		for _, id := range *lost {
			out.LostReplicas += pins[id]
		}
	}
	return out
}
