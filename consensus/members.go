package consensus

import (
	"context"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Members returns the latest membership that this peer knows, committed or not.
func (l *Log) Members() []api.RaftMember {
	r := l.raft.Load()
	if r == nil {
		return nil
	}
	var out []api.RaftMember
	for _, server := range r.GetConfiguration().Configuration().Servers {
		id, err := l.names.decode(server.ID)
		if err != nil {
			l.logger.Warn("a member has no peer ID", "server", server.ID, "error", err)
			continue
		}
		out = append(out, api.RaftMember{ID: id, Voter: server.Suffrage == raft.Voter})
	}
	return out
}

// names remembers the peer IDs of raft's servers. Who leads and who belongs to
// the cluster is asked several times a second, and decoding takes far longer
// than the rest of the answer.
type names struct{ known sync.Map } // raft.ServerID -> peer.ID, of every server there ever was

func (n *names) decode(server raft.ServerID) (peer.ID, error) {
	if id, ok := n.known.Load(server); ok {
		return id.(peer.ID), nil
	}
	id, err := peer.Decode(string(server))
	if err == nil {
		n.known.Store(server, id)
	}
	return id, err
}

// The calls that change the membership work on the leader only. They return
// when the change is committed; repeating one is harmless. Errors: no_leader,
// nothing was changed; unknown_outcome; conflict, the last voter must stay.

// AddLearner makes a peer replicate without a vote. A voter stays a voter.
func (l *Log) AddLearner(ctx context.Context, id peer.ID) error {
	l.freshen()
	return l.change(ctx, func(r *raft.Raft) raft.Future { return r.AddNonvoter(serverID(id), serverAddress(id), 0, 0) })
}

// AddVoter gives a peer a vote, be it a learner or new.
func (l *Log) AddVoter(ctx context.Context, id peer.ID) error {
	return l.change(ctx, func(r *raft.Raft) raft.Future { return r.AddVoter(serverID(id), serverAddress(id), 0, 0) })
}

// Demote makes a voter a learner.
func (l *Log) Demote(ctx context.Context, id peer.ID) error {
	if err := l.keepVoter(id); err != nil {
		return err
	}
	return l.change(ctx, func(r *raft.Raft) raft.Future { return r.DemoteVoter(serverID(id), 0, 0) })
}

// Remove ends a peer's part in the agreement. A leader may remove itself.
func (l *Log) Remove(ctx context.Context, id peer.ID) error {
	if err := l.keepVoter(id); err != nil {
		return err
	}
	return l.change(ctx, func(r *raft.Raft) raft.Future { return r.RemoveServer(serverID(id), 0, 0) })
}

// TransferLeadership makes another voter the leader, after it has caught up. It
// is a conflict, too, when that one does not take over; this peer leads on then.
func (l *Log) TransferLeadership(ctx context.Context, id peer.ID) error {
	if id == l.config.ID {
		if !l.IsLeader() {
			return l.noLeader()
		}
		return nil
	}
	// Raft would ask a learner too: it cannot win, but this peer would step down.
	if !slices.Contains(l.Members(), api.RaftMember{ID: id, Voter: true}) {
		return api.Errorf(api.CodeConflict, "%s has no vote; make it a voter first ('cluster-ctl peers promote')", id)
	}
	err := l.change(ctx, func(r *raft.Raft) raft.Future {
		return r.LeadershipTransferToServer(serverID(id), serverAddress(id))
	})
	if api.CodeOf(err) == api.CodeUnknownOutcome && ctx.Err() == nil {
		return api.Errorf(api.CodeConflict, "%s did not take over the leadership; see whether it is well ('cluster-ctl peers ls') and try again, or choose another: %w", id, err)
	}
	return err
}

// keepVoter refuses to let the last voter go; raft refuses too, but its error
// has no type.
func (l *Log) keepVoter(id peer.ID) error {
	voters, isVoter := 0, false
	for _, member := range l.Members() {
		if member.Voter {
			voters++
			isVoter = isVoter || member.ID == id
		}
	}
	if isVoter && voters == 1 {
		return api.Errorf(api.CodeConflict, "%s is the last voter; make another peer a voter first", id)
	}
	return nil
}

// change makes one call into raft. Such a call waits at raft's door until the
// last change is committed, so it has a goroutine of its own, which Run waits
// for.
func (l *Log) change(ctx context.Context, call func(*raft.Raft) raft.Future) error {
	r := l.raft.Load()
	if r == nil || r.State() != raft.Leader {
		return l.noLeader()
	}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return l.noLeader()
	}
	l.handing.add()
	l.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		future := call(r)
		l.inFlight.add()
		l.handing.done()
		defer l.inFlight.done()
		done <- future.Error()
	}()
	select {
	case err := <-done:
		if err == nil {
			return nil
		}
		return l.translate(err)
	case <-ctx.Done():
		return api.Errorf(api.CodeUnknownOutcome, "waiting for the change of the membership ended: %w", context.Cause(ctx))
	}
}
