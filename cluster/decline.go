package cluster

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// declineTime is how long a peer that could not hold a pin is not asked to
// hold it again.
const declineTime = 10 * time.Minute

// declines remembers, on the leader, who could not hold what. Without it a pin
// that fits nowhere would wander for ever, and each peer would fetch what it
// can of it again and again.
type declines struct {
	mu    sync.Mutex
	swept time.Time
	last  map[string]map[peer.ID]time.Time // by the CID's bytes
}

// add notes a decline, and returns all peers that declined the pin lately.
func (d *declines) add(req api.DeclineRequest, now time.Time) map[peer.ID]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.swept) > declineTime {
		maps.DeleteFunc(d.last, func(_ string, peers map[peer.ID]time.Time) bool {
			maps.DeleteFunc(peers, func(_ peer.ID, at time.Time) bool { return now.Sub(at) > declineTime })
			return len(peers) == 0
		})
		d.swept = now
	}
	if d.last == nil {
		d.last = map[string]map[peer.ID]time.Time{}
	}
	key := req.Cid.KeyString()
	if d.last[key] == nil {
		d.last[key] = map[peer.ID]time.Time{}
	}
	d.last[key][req.Peer] = now
	unable := map[peer.ID]bool{}
	for id, at := range d.last[key] {
		if now.Sub(at) <= declineTime {
			unable[id] = true
		}
	}
	return unable
}

// decideDecline is the leader's part of Decline.
func (c *Cluster) decideDecline(ctx context.Context, req api.DeclineRequest) error {
	moved, unable := false, c.declines.add(req, time.Now())
	_, err := c.decide(ctx, req.Cid, func(ctx context.Context) (command, error) {
		pin, exists, err := c.state.Get(req.Cid.Cid)
		if err != nil {
			return nil, err
		}
		if !exists || pin.IsEverywhere() || !pin.AllocatedTo(req.Peer) {
			return nil, errNothingToDo
		}
		cmd, err := c.replace(ctx, pin, unable)
		moved = err == nil
		return cmd, err
	})
	if errors.Is(err, errNothingToDo) {
		return nil
	}
	if moved && err == nil {
		c.logger.Info("moved a replica away from a peer that cannot hold it", "cid", req.Cid, "peer", req.Peer, "reason", req.Reason)
	}
	return err
}
