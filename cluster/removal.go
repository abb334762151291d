package cluster

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/state"
)

// RemovePeer removes a member; its pins are placed elsewhere afterwards.
// Refused when the rest would have no quorum, unless it is forced. Errors:
// not_found, invalid.
func (c *Cluster) RemovePeer(ctx context.Context, req api.RemoveRequest) error {
	_, err := onLeader(ctx, c,
		func(ctx context.Context) (struct{}, error) { return struct{}{}, c.removeHere(ctx, req) },
		func(ctx context.Context, leader peer.ID) (struct{}, error) {
			return struct{}{}, c.remote.RemovePeer(ctx, leader, req)
		})
	return err
}

func (c *Cluster) removeHere(ctx context.Context, req api.RemoveRequest) error {
	members, _, err := c.seatOf(req.Peer)
	if err != nil {
		return err
	}
	if err := c.quorumWithout(members, req.Peer); err != nil && (!req.Force || onlyVoter(members, req.Peer)) {
		return err
	}
	if req.Peer == c.cfg.Self {
		return c.stepDown(ctx, members)
	}
	// The pinset first: the removed peer still hears of that, and so learns why
	// nobody talks to it any more.
	if _, err := c.propose(ctx, state.RemoveMemberCommand{ID: req.Peer}); err != nil && !errors.Is(err, api.ErrNotFound) {
		return err
	}
	return c.membership.Remove(ctx, req.Peer)
}

func onlyVoter(members []api.RaftMember, id peer.ID) bool {
	for _, m := range members {
		if m.Voter && m.ID != id {
			return false
		}
	}
	return true
}

// quorumWithout refuses the loss of a vote after which no majority of the
// voters would be alive.
func (c *Cluster) quorumWithout(members []api.RaftMember, id peer.ID) error {
	voters, live := 0, 0
	for _, m := range members {
		if !m.Voter || m.ID == id {
			continue
		}
		voters++
		if view, ok := c.view(m.ID); m.ID == c.cfg.Self || ok && view.State != api.PeerDown {
			live++
		}
	}
	switch {
	case voters == 0:
		return api.Errorf(api.CodeInvalid, "%s is the only voter; a cluster cannot be without one", id)
	case live < voters/2+1:
		return api.Errorf(api.CodeInvalid, "without %s only %d of %d voters would be alive and the cluster could decide nothing; bring the others back or remove the dead ones first (or force it: 'cluster-ctl peers rm --force')", id, live, voters)
	}
	return nil
}

// handOver gives leadership to the first other voter that takes it.
func (c *Cluster) handOver(ctx context.Context, members []api.RaftMember) error {
	err := error(api.Errorf(api.CodeConflict, "no other voter is up to take over leadership"))
	for _, m := range members {
		if m.ID == c.cfg.Self || c.fitToLead(m.ID) != nil {
			continue
		}
		if err = c.membership.TransferLeadership(ctx, m.ID); api.CodeOf(err) != api.CodeConflict {
			return err
		}
	}
	return err
}
