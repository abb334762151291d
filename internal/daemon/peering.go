package daemon

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// peeringEvery is how often it is looked who the members are and which IPFS
// nodes are theirs, at least.
const peeringEvery = 2 * time.Second

// keepPeering keeps the IPFS nodes of the cluster connected to one another. In
// a private cluster a node also admits no others than these.
func (d *Daemon) keepPeering(ctx context.Context) error {
	again := time.NewTicker(peeringEvery)
	defer again.Stop()
	var last string
	nodes := memberNodes{}
	for {
		changed := d.monitor.Changed()
		nodes.update(d.monitor.View(), d.memberIDs())
		delete(nodes, d.ID())
		infos := nodes.list()
		if now := fmt.Sprint(infos); now != last {
			d.node.Peer(infos)
			last = now
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// memberNodes are the IPFS nodes of the members, by member, as last reported.
type memberNodes map[peer.ID]peer.AddrInfo

// update takes in what was reported. A new leader has heard nothing of some
// members for a moment: they keep the node they had, as long as they are
// members. A peer that knows no members yet, as its log has not come, believes
// the leader.
func (m memberNodes) update(views []api.PeerView, members []peer.ID) {
	reported := map[peer.ID]bool{}
	for _, view := range views {
		reported[view.Report.Peer] = true
		if view.Report.IPFS != "" {
			m[view.Report.Peer] = ipfsInfo(view.Report)
		}
	}
	for id := range m {
		gone := !slices.Contains(members, id)
		if len(members) == 0 {
			gone = !reported[id]
		}
		if gone {
			delete(m, id)
		}
	}
}

func (m memberNodes) list() []peer.AddrInfo {
	infos := make([]peer.AddrInfo, 0, len(m))
	for _, info := range m {
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b peer.AddrInfo) int { return cmp.Compare(a.ID, b.ID) })
	return infos
}
