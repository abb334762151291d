package cluster

import (
	"context"

	"holdfast/api"
)

// Leave takes this peer out of the cluster for good, before it is shut down;
// its pins are placed elsewhere from then on. Refused when the others would have
// no quorum, or when they would hold fewer replicas of a pin than its minimum.
// It goes by who is up, not by how far each has fetched. Errors: conflict,
// invalid, no_leader.
func (c *Cluster) Leave(ctx context.Context) error {
	if len(c.memberIDs()) < 2 {
		return api.Errorf(api.CodeConflict, "this peer is the only member of its cluster")
	}
	if err := c.spareable(ctx); err != nil {
		return err
	}
	return c.RemovePeer(ctx, api.RemoveRequest{Peer: c.cfg.Self})
}

// spareable refuses when a pin would miss this peer.
func (c *Cluster) spareable(ctx context.Context) error {
	var first api.Cid
	missing := 0
	for pin, err := range c.state.Select(ctx, api.PinFilter{Peer: c.cfg.Self}) {
		if err != nil {
			return err
		}
		if pin.IsEverywhere() || c.liveReplicas(pin) >= pin.ReplicationFactorMin {
			continue
		}
		if missing++; missing == 1 {
			first = pin.Cid
		}
	}
	if missing > 0 {
		return api.Errorf(api.CodeConflict, "without this peer %d pins would have fewer live replicas than their minimum, %s for one", missing, first)
	}
	return nil
}

// liveReplicas counts the holders of a pin that are up, but for this peer.
func (c *Cluster) liveReplicas(pin api.Pin) int {
	live := 0
	for _, holder := range pin.Allocations {
		if view, ok := c.view(holder); ok && holder != c.cfg.Self && view.State == api.PeerUp {
			live++
		}
	}
	return live
}
