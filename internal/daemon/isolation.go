package daemon

import (
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// isolationTime is how long an IPFS node may reach no other before that is an
// alert: nodes dial again every 15 seconds.
const isolationTime = 30 * time.Second

// isolation finds out that this peer's IPFS node is cut off from the others'.
// The cluster may go on as if nothing was, for it has a swarm of its own.
type isolation struct {
	self    peer.ID
	view    func() []api.PeerView
	reaches func(node peer.ID) bool

	mu    sync.Mutex
	since time.Time // when no other was reached for the first time; zero: one is
}

// Conditions tells of a node that reaches none of those of the peers that are up.
func (i *isolation) Conditions() []api.Condition {
	up, reached := 0, false
	for _, view := range i.view() {
		if view.Report.Peer != i.self && view.State == api.PeerUp && view.Report.NodeError == "" && view.Report.IPFS != "" {
			up++
			reached = reached || i.reaches(view.Report.IPFS)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case up == 0 || reached:
		i.since = time.Time{}
		return nil
	case i.since.IsZero():
		i.since = time.Now()
	}
	if time.Since(i.since) < isolationTime {
		return nil
	}
	return []api.Condition{{Name: api.AlertIsolated, Message: fmt.Sprintf("this peer's IPFS node reaches none of the nodes of the %d other peers that are up, so it fetches nothing from them. "+
		"Open the IPFS swarm's port (ipfs.swarm, 4001) between the machines; check ipfs.announce, address filters of the node and the clock", up)}}
}
