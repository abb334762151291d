package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/state"
)

// balance makes one step towards the voters that there should be. It runs on
// the leader, which has led since some time.
func (c *Cluster) balance(ctx context.Context, led time.Time) {
	c.progress.note(c.state.Applied(), time.Now())
	if c.finishRemoval(ctx) {
		return
	}
	change, ok := decideVote(c.seats(led), votePolicy{Wanted: c.cfg.Voters, SettleTime: c.cfg.SettleTime, LostTime: c.cfg.LostTime, MaxLag: caughtUp})
	if !ok {
		return
	}
	step, done := c.membership.Demote, "voter made a learner"
	if change.Voter {
		step, done = c.membership.AddVoter, "learner made a voter"
	}
	if err := step(ctx, change.ID); err != nil {
		c.logger.Warn("votes not changed", "peer", change.ID, "voter", change.Voter, "why", change.Why, "err", err)
		return
	}
	c.logger.Info(done, "peer", change.ID, "name", c.nameOf(change.ID), "why", change.Why)
}

// finishRemoval ends the part in the votes of a peer that the pinset does not
// know as a member any more: a leader fell in the middle of its removal. A peer
// that joins is in the pinset first.
func (c *Cluster) finishRemoval(ctx context.Context) bool {
	members := c.membership.Members()
	for _, m := range members {
		_, known, err := c.state.Member(m.ID)
		if err != nil || known || m.ID == c.cfg.Self || m.Voter && c.quorumWithout(members, m.ID) != nil {
			continue
		}
		if err := c.membership.Remove(ctx, m.ID); err != nil {
			c.logger.Warn("removal not finished", "peer", m.ID, "err", err)
			return true
		}
		c.logger.Info("removal finished", "peer", m.ID)
		return true
	}
	return false
}

// seats are the members as the decision sees them. No state counts for longer
// than this peer leads: the clock by which the last leader saw it begin is
// another one.
func (c *Cluster) seats(led time.Time) []seat {
	now := time.Now()
	wishes := c.wishes()
	var out []seat
	for _, m := range c.membership.Members() {
		s := seat{ID: m.ID, Voter: m.Voter, Wish: wishes[m.ID], Self: m.ID == c.cfg.Self, Lag: farBehind}
		if view, ok := c.view(m.ID); ok {
			s.Up, s.Down = view.State == api.PeerUp && view.Report.Applied > 0, view.State == api.PeerDown
			s.For = max(0, min(now.Sub(view.Since), now.Sub(led)))
			s.Lag = c.progress.lag(view.Report.Applied, now)
		}
		s.Up = s.Up || s.Self
		out = append(out, s)
	}
	return out
}

// wishes are the roles that operators wish.
func (c *Cluster) wishes() map[peer.ID]api.Role {
	members, err := c.state.Members()
	if err != nil {
		c.logger.Error("members not read", "err", err)
	}
	out := map[peer.ID]api.Role{}
	for _, m := range members {
		out[m.ID] = m.Role
	}
	return out
}

// SetRole stores what a member shall be in the votes, and carries it out. A
// voter keeps its vote as long as it is fit for it, and another loses its own
// when there would be too many; a learner is not given one; auto leaves both to
// the leader. Errors: not_found, invalid (the quorum would be lost),
// conflict (the member is not fit to vote now).
func (c *Cluster) SetRole(ctx context.Context, req api.RoleRequest) error {
	_, err := onLeader(ctx, c,
		func(ctx context.Context) (struct{}, error) { return struct{}{}, c.setRoleHere(ctx, req) },
		func(ctx context.Context, leader peer.ID) (struct{}, error) {
			return struct{}{}, c.remote.SetRole(ctx, leader, req)
		})
	return err
}

func (c *Cluster) setRoleHere(ctx context.Context, req api.RoleRequest) error {
	members, member, err := c.seatOf(req.Peer)
	if err != nil {
		return err
	}
	switch req.Role {
	case api.RoleAuto:
	case api.RoleVoter:
		if err := c.fitToVote(req.Peer); !member.Voter && err != nil {
			return err
		}
	case api.RoleLearner:
		if err := c.quorumWithout(members, req.Peer); member.Voter && err != nil {
			return err
		}
		if member.Voter && req.Peer == c.cfg.Self {
			return c.stepDown(ctx, members)
		}
	default:
		return api.Errorf(api.CodeInvalid, "%q is no role; it is one of %s, %s and %s", req.Role, api.RoleAuto, api.RoleVoter, api.RoleLearner)
	}
	if _, err := c.propose(ctx, state.SetRoleCommand{ID: req.Peer, Role: req.Role}); err != nil {
		return err
	}
	switch {
	case req.Role == api.RoleVoter && !member.Voter:
		return c.membership.AddVoter(ctx, req.Peer)
	case req.Role == api.RoleLearner && member.Voter:
		return c.membership.Demote(ctx, req.Peer)
	}
	return nil
}

// seatOf returns all members and the one that is spoken of, on the leader.
func (c *Cluster) seatOf(id peer.ID) ([]api.RaftMember, api.RaftMember, error) {
	if !c.log.IsLeader() {
		return nil, api.RaftMember{}, api.Errorf(api.CodeNoLeader, "this peer is not the leader")
	}
	members := c.membership.Members()
	i := slices.IndexFunc(members, func(m api.RaftMember) bool { return m.ID == id })
	if i < 0 {
		return nil, api.RaftMember{}, api.Errorf(api.CodeNotFound, "%s is not a peer of this cluster; 'cluster-ctl peers ls' shows them", id)
	}
	return members, members[i], nil
}

// fitToLead refuses to hand leadership to a peer that cannot take it over: raft
// would try for a while, and take no writes meanwhile.
func (c *Cluster) fitToLead(id peer.ID) error {
	_, member, err := c.seatOf(id)
	switch {
	case err != nil:
		return err
	case id == c.cfg.Self:
		return nil
	case !member.Voter:
		return api.Errorf(api.CodeConflict, "%s has no vote; make it a voter first ('cluster-ctl peers promote')", id)
	}
	return c.upToDate(id, "leadership would be lost on it")
}

// fitToVote refuses a vote to a peer that would not use it.
func (c *Cluster) fitToVote(id peer.ID) error {
	return c.upToDate(id, "a vote that is not cast counts against the others")
}

// upToDate refuses a peer that is not up, and says why that matters, or is
// behind.
func (c *Cluster) upToDate(id peer.ID, why string) error {
	view, ok := c.view(id)
	if !ok || view.State != api.PeerUp {
		return api.Errorf(api.CodeConflict, "%s is not up, and %s; bring it back first", id, why)
	}
	c.progress.note(c.state.Applied(), time.Now())
	if c.progress.lag(view.Report.Applied, time.Now()) > caughtUp {
		return api.Errorf(api.CodeConflict, "%s is behind, at log index %d of %d; let it catch up first ('cluster-ctl peers ls' shows how far it is)",
			id, view.Report.Applied, c.state.Applied())
	}
	return nil
}

// stepDown hands leadership over, so that the next leader does what this one
// cannot do to itself.
func (c *Cluster) stepDown(ctx context.Context, members []api.RaftMember) error {
	if err := c.handOver(ctx, members); err != nil {
		return err
	}
	return api.Errorf(api.CodeNoLeader, "leadership was handed over; ask the new leader")
}

// TransferLeadership makes another voter the leader. Errors: not_found,
// conflict (it has no vote, is not up, is behind, or did not take over).
func (c *Cluster) TransferLeadership(ctx context.Context, to peer.ID) error {
	_, err := onLeader(ctx, c,
		func(ctx context.Context) (struct{}, error) {
			if err := c.fitToLead(to); err != nil {
				return struct{}{}, err
			}
			return struct{}{}, c.membership.TransferLeadership(ctx, to)
		},
		func(ctx context.Context, leader peer.ID) (struct{}, error) {
			if leader == to {
				return struct{}{}, nil
			}
			return struct{}{}, c.remote.TransferLeadership(ctx, leader, to)
		})
	return err
}
