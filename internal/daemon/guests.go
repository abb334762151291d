package daemon

import (
	"slices"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/internal/crowd"
)

// Who knows the swarm's secret can connect, and as many peers at once as it
// likes to be: so few of them as are guests at a time, of one address above all.
const (
	maxGuests           = 64
	maxGuestsPerAddress = 16
)

// guests bounds the connections of peers that are no members.
type guests struct {
	trust atomic.Pointer[trust] // nil: nobody is known yet
	here  *crowd.Crowd[network.Conn]
}

func newGuests() *guests {
	return &guests{here: crowd.New(maxGuests, maxGuestsPerAddress, asks)}
}

// asks says whether a guest is about what guests come for.
func asks(c network.Conn) bool {
	return slices.ContainsFunc(c.GetStreams(), func(s network.Stream) bool { return s.Protocol() == protocol.ID(api.JoinProtocol) })
}

// has says whether a connected peer is a guest.
func (g *guests) has(id peer.ID) bool {
	t := g.trust.Load()
	return t != nil && !t.knows(id)
}

// InterceptUpgraded lets everybody in. For a guest another one may have to go.
func (g *guests) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	t := g.trust.Load()
	if c.Stat().Direction == network.DirOutbound || t == nil {
		return true, 0
	}
	at := crowd.AddressOf(c.RemoteMultiaddr())
	if t.isMemberAt(c.RemotePeer(), at) {
		return true, 0
	}
	g.here.RemoveFunc(func(c network.Conn) bool { return c.IsClosed() || t.knows(c.RemotePeer()) })
	if out, crowded := g.here.Add(c, at); crowded {
		_ = out.Close() // it may be closed already
	}
	return true, 0
}

// InterceptPeerDial lets all through, as do the others.
func (g *guests) InterceptPeerDial(peer.ID) bool                      { return true }
func (g *guests) InterceptAddrDial(peer.ID, multiaddr.Multiaddr) bool { return true }
func (g *guests) InterceptAccept(network.ConnMultiaddrs) bool         { return true }
func (g *guests) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return true
}

// narrowDoor gives those who want to join fewer streams than members have. In
// all there are as many as the guests can open together: the door itself sees
// to it that few of them are read at a time.
func narrowDoor(limits *rcmgr.ScalingLimitConfig) {
	const perPeer, inbound = 4, 2 * maxGuests * 4
	limits.AddProtocolLimit(protocol.ID(api.JoinProtocol), rcmgr.BaseLimit{Streams: inbound + 64, StreamsInbound: inbound, StreamsOutbound: 64, Memory: 16 << 20}, rcmgr.BaseLimitIncrease{})
	limits.AddProtocolPeerLimit(protocol.ID(api.JoinProtocol), rcmgr.BaseLimit{Streams: 2 * perPeer, StreamsInbound: perPeer, StreamsOutbound: perPeer, Memory: 1 << 20}, rcmgr.BaseLimitIncrease{})
}
