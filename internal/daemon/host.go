package daemon

import (
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/internal/crowd"
)

// newHost opens the cluster swarm: private by its pre-shared key, which rules
// out QUIC, and apart from the IPFS swarm, so that neither raft nor rpc is in
// reach of the public network. See docs/architecture.md. guests are the limits
// for those who are no members; nil: this host serves nobody.
func newHost(identity Identity, info ClusterInfo, listen, announce []string, connections int, version string, guests *guests) (host.Host, error) {
	options := []libp2p.Option{
		libp2p.Ping(false), // nobody asks for it
		libp2p.Identity(identity.Key),
		libp2p.PrivateNetwork(info.Secret),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Security(libp2ptls.ID, newTimelessTLS),
		libp2p.Security(noise.ID, noise.New),
		libp2p.DisableRelay(),
		libp2p.UserAgent("holdfast/" + version),
	}
	limits, err := swarmLimits(connections, guests)
	if err != nil {
		return nil, fmt.Errorf("cluster swarm: %w", err)
	}
	options = append(options, limits...)
	if guests != nil {
		options = append(options, libp2p.ConnectionGater(guests))
	}
	if len(listen) == 0 {
		options = append(options, libp2p.NoListenAddrs)
	} else {
		options = append(options, libp2p.ListenAddrStrings(listen...))
	}
	if len(announce) > 0 {
		var addrs []multiaddr.Multiaddr
		for _, text := range announce {
			addr, err := multiaddr.NewMultiaddr(text)
			if err != nil {
				return nil, fmt.Errorf("cluster.announce: %q: %w", text, err)
			}
			addrs = append(addrs, addr)
		}
		options = append(options, libp2p.AddrsFactory(func([]multiaddr.Multiaddr) []multiaddr.Multiaddr { return addrs }))
	}
	h, err := libp2p.New(options...)
	if err != nil {
		return nil, fmt.Errorf("cluster swarm: %w", err)
	}
	return h, nil
}

// joinConnections are enough for a peer that only asks to be admitted.
const joinConnections = 64

// swarmLimits bound how many connections the swarm takes, each a file
// descriptor. Those that have not shown yet that they know the key get a half
// at most.
func swarmLimits(connections int, guests *guests) ([]libp2p.Option, error) {
	high := min(400, connections*3/4)
	trim, err := connmgr.NewConnManager(high/2, high)
	if err != nil {
		return nil, err
	}
	scaled := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaled)
	narrowDoor(&scaled)
	own := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{FD: rcmgr.LimitVal(connections)},
		// A stream that has not said what it is for yet is transient; guests can have so many.
		Transient: rcmgr.ResourceLimits{FD: rcmgr.LimitVal(connections / 2), StreamsInbound: 4 * maxGuests * guestStreams, Streams: 5 * maxGuests * guestStreams},
	}
	var resources network.ResourceManager
	if resources, err = rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(own.Build(scaled.AutoScale()))); err != nil {
		return nil, err
	}
	if guests != nil {
		resources = &frugal{ResourceManager: resources, guests: guests, open: map[peer.ID]int{}}
	}
	return []libp2p.Option{libp2p.ConnectionManager(trim), libp2p.ResourceManager(resources)}, nil
}

// addressOf is from where a connected peer speaks. In simulation there are no addresses.
func (d *Daemon) addressOf(id peer.ID) netip.Prefix {
	if d.host != nil {
		for _, c := range d.host.Network().ConnsToPeer(id) {
			return crowd.AddressOf(c.RemoteMultiaddr())
		}
	}
	return netip.Prefix{}
}

// withoutPeer returns a member's addresses without their /p2p end.
func withoutPeer(m api.Member) []multiaddr.Multiaddr {
	var out []multiaddr.Multiaddr
	for _, addr := range m.Addresses {
		if transport, _ := peer.SplitAddr(addr); transport != nil {
			out = append(out, transport)
		}
	}
	return out
}
