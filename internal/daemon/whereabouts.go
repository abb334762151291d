package daemon

import (
	"context"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
)

// locator asks a member where it reaches another one.
type locator interface {
	Whereabouts(ctx context.Context, to, id peer.ID) (api.Member, error)
}

// maxWhereabouts bounds the addresses that are told and believed of one member.
const maxWhereabouts = 32

// whereabouts are the addresses of a member that this peer is connected to, as
// it told them itself.
func (d *Daemon) whereabouts(id peer.ID) api.Member {
	out := api.Member{ID: id}
	if d.host == nil || !d.trust.listed(id) || d.host.Network().Connectedness(id) != network.Connected {
		return out
	}
	out.Addresses = d.host.Peerstore().Addrs(id)
	out.Addresses = out.Addresses[:min(len(out.Addresses), maxWhereabouts)]
	return out
}

// findThrough asks one member that is connected, another in each round, where a
// missing one is, and dials it there. Who answers at an address proves that it
// is the member, so that a wrong answer costs a dial and no more.
func findThrough(ctx context.Context, h host.Host, members locator, known []api.Member, missing peer.ID, round int) {
	var connected []peer.ID
	for _, m := range known {
		if m.ID != h.ID() && h.Network().Connectedness(m.ID) == network.Connected {
			connected = append(connected, m.ID)
		}
	}
	if len(connected) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	told, err := members.Whereabouts(ctx, connected[round%len(connected)], missing)
	if err != nil {
		return // of an older version, or busy; another is asked in the next round
	}
	fresh := newAddresses(h.Peerstore().Addrs(missing), told.Addresses)
	if len(fresh) == 0 {
		return
	}
	h.Peerstore().AddAddrs(missing, fresh, peerstore.TempAddrTTL)
	_ = h.Connect(network.WithForceDirectDial(ctx, "told by a member"), peer.AddrInfo{ID: missing}) // tried again
}

// newAddresses are those told that are not had yet.
func newAddresses(have, told []multiaddr.Multiaddr) []multiaddr.Multiaddr {
	var out []multiaddr.Multiaddr
	for _, addr := range told[:min(len(told), maxWhereabouts)] {
		if !multiaddr.Contains(have, addr) {
			out = append(out, addr)
		}
	}
	return out
}
