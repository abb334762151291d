package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/cluster"
)

// WaitWhole waits until this peer sees the given peers as up, and so many of
// them as voters as there shall be.
func (d *Daemon) WaitWhole(ctx context.Context, ids []peer.ID) error {
	for {
		changed := d.monitor.Changed()
		if d.whole(ids) {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond): // memberships have no such signal
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (d *Daemon) whole(ids []peer.ID) bool {
	view, members := d.monitor.View(), d.log.Members()
	voters := 0
	for _, m := range members {
		if m.Voter {
			voters++
		}
	}
	for _, id := range ids {
		up := slices.ContainsFunc(view, func(v api.PeerView) bool { return v.Report.Peer == id && v.State == api.PeerUp })
		if !up || !slices.ContainsFunc(members, func(m api.RaftMember) bool { return m.ID == id }) {
			return false
		}
	}
	return voters >= cluster.VotersAmong(len(ids), d.opts.Config.Voters)
}
