package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/boxo/peering"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

const (
	dialTimeout  = 5 * time.Second
	holdersAtOne = 4                       // holders dialled for one fetch
	dialWait     = 1500 * time.Millisecond // for a peer whose part it is to dial us
	// dialEvery is how often those who are not connected are dialled, as far as
	// the swarm's own patience allows. Kubo's peering service backs off to ten
	// minutes; a new node of a private cluster is refused at first by those who
	// have not heard of it yet.
	dialEvery = 3 * time.Second
)

// Peer replaces the set of nodes to stay connected with. Unless the node is
// public, its connections with others end, and it makes none any more. Of each pair only the
// one with the lower ID dials: two nodes that dial each other at the same
// moment can end with a bitswap exchange that never progresses. May be called
// at any time, also before Run.
func (n *Node) Peer(infos []peer.AddrInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers = map[peer.ID]peer.AddrInfo{}
	for _, info := range infos {
		if info.ID != "" && info.ID != n.id {
			n.peers[info.ID] = info
		}
	}
	select {
	case n.peersChanged <- struct{}{}:
	default:
	}
}

// Reaches says whether this node is connected with another. May be called at
// any time.
func (n *Node) Reaches(id peer.ID) bool {
	n.mu.Lock()
	o := n.open
	n.mu.Unlock()
	return o != nil && connected(o, id)
}

func (n *Node) peerSet() map[peer.ID]peer.AddrInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.peers // never changed in place
}

// keepPeers brings Kubo's peering service in line with the peering set. The
// service waits seconds before its first dial, so that is made here.
func (n *Node) keepPeers(ctx context.Context, o *opened) {
	have := map[peer.ID]peer.AddrInfo{}
	var dials sync.WaitGroup
	defer dials.Wait()
	again := time.NewTicker(dialEvery)
	defer again.Stop()
	for {
		want := n.peerSet()
		for id := range have {
			if _, ok := want[id]; !ok {
				o.core.Peering.RemovePeer(id)
				o.core.PeerHost.ConnManager().Unprotect(id, peering.ConnmgrTag)
			}
		}
		for id, info := range want {
			old, known := have[id]
			if known && slices.EqualFunc(old.Addrs, info.Addrs, sameAddr) {
				continue
			}
			letIn(o.core.Filters, info)
			if !dialsTo(o, id) {
				o.core.PeerHost.ConnManager().Protect(id, peering.ConnmgrTag)
				continue
			}
			o.core.Peering.AddPeer(info)
			dials.Go(func() { n.dial(ctx, o, info) })
		}
		have = want
		n.turnOut(o)
		select {
		case <-n.peersChanged:
		case <-again.C:
			for id, info := range want {
				if dialsTo(o, id) && !connected(o, id) {
					dials.Go(func() { n.dial(ctx, o, info) })
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

func sameAddr(a, b multiaddr.Multiaddr) bool { return a.Equal(b) }

// dialsTo says whether it is this node's part to dial a peer.
func dialsTo(o *opened, id peer.ID) bool { return o.core.Identity < id }

func connected(o *opened, id peer.ID) bool {
	return o.core.PeerHost.Network().Connectedness(id) == network.Connected
}

func (n *Node) dial(ctx context.Context, o *opened, info peer.AddrInfo) {
	if connected(o, info.ID) || len(info.Addrs) == 0 {
		return
	}
	letIn(o.core.Filters, info)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if err := o.core.PeerHost.Connect(ctx, info); err != nil {
		n.logger.Debug("could not connect", "peer", info.ID, "error", err)
	}
}

// connect sees to it that a holder is connected, if any can be: none is dialled
// when one is already. It returns as soon as one is.
func (n *Node) connect(ctx context.Context, o *opened, holders []peer.AddrInfo) {
	var others []peer.AddrInfo
	for _, h := range holders {
		if h.ID == o.core.Identity || h.ID == "" {
			continue
		}
		if connected(o, h.ID) {
			return
		}
		others = append(others, h)
	}
	if len(others) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var dials sync.WaitGroup
	defer dials.Wait()
	one := make(chan struct{}, holdersAtOne)
	others = others[:min(len(others), holdersAtOne)]
	for _, h := range others {
		dials.Go(func() {
			defer func() { one <- struct{}{} }()
			n.reach(ctx, o, h)
		})
	}
	for range others {
		<-one
		if slices.ContainsFunc(others, func(h peer.AddrInfo) bool { return connected(o, h.ID) }) {
			return
		}
	}
}

// reach connects to a holder. One whose part it is to dial us, being a peer
// with a lower ID, is given the time to do so first.
func (n *Node) reach(ctx context.Context, o *opened, h peer.AddrInfo) {
	if _, peered := n.peerSet()[h.ID]; peered && !dialsTo(o, h.ID) && n.awaitConnection(ctx, o, h.ID) {
		return
	}
	n.dial(ctx, o, h)
}

func (n *Node) awaitConnection(ctx context.Context, o *opened, id peer.ID) bool {
	came := make(chan struct{}, 1)
	notify := &network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if c.RemotePeer() == id {
			select {
			case came <- struct{}{}:
			default:
			}
		}
	}}
	o.core.PeerHost.Network().Notify(notify)
	defer o.core.PeerHost.Network().StopNotify(notify)
	timer := time.NewTimer(dialWait)
	defer timer.Stop()
	if connected(o, id) {
		return true
	}
	select {
	case <-came:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return connected(o, id)
}
