package daemon

import (
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
)

// Who knows the swarm's secret can connect, and as many peers at once as it
// likes to be: so few of them as wait at the door at a time, and not for long.
const (
	maxGuests = 64
	guestTime = 5 * time.Minute
)

// guests bounds the connections of peers that are no members.
type guests struct {
	isMember atomic.Pointer[func(peer.ID) bool] // nil: nobody is known yet
	network  atomic.Pointer[host.Host]
}

func (g *guests) member(id peer.ID) bool {
	isMember := g.isMember.Load()
	return isMember == nil || (*isMember)(id)
}

// InterceptUpgraded lets members in, and some others.
func (g *guests) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	h := g.network.Load()
	if c.Stat().Direction == network.DirOutbound || h == nil || g.member(c.RemotePeer()) {
		return true, 0
	}
	waiting := 0
	for _, id := range (*h).Network().Peers() {
		if !g.member(id) {
			waiting++
		}
	}
	if waiting >= maxGuests {
		return false, 0
	}
	time.AfterFunc(guestTime, func() {
		if !g.member(c.RemotePeer()) {
			_ = c.Close() // it may be closed already
		}
	})
	return true, 0
}

// InterceptPeerDial lets all through, as do the others.
func (g *guests) InterceptPeerDial(peer.ID) bool                      { return true }
func (g *guests) InterceptAddrDial(peer.ID, multiaddr.Multiaddr) bool { return true }
func (g *guests) InterceptAccept(network.ConnMultiaddrs) bool         { return true }
func (g *guests) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return true
}

// narrowDoor gives those who want to join fewer streams than members have.
func narrowDoor(limits *rcmgr.ScalingLimitConfig) {
	limits.AddProtocolLimit(protocol.ID(api.JoinProtocol), rcmgr.BaseLimit{Streams: 128, StreamsInbound: 64, StreamsOutbound: 64, Memory: 16 << 20}, rcmgr.BaseLimitIncrease{})
	limits.AddProtocolPeerLimit(protocol.ID(api.JoinProtocol), rcmgr.BaseLimit{Streams: 8, StreamsInbound: 4, StreamsOutbound: 4, Memory: 1 << 20}, rcmgr.BaseLimitIncrease{})
}
