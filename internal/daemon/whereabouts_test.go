package daemon

import (
	"context"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
)

// bookOf answers from one host's address book.
type bookOf struct{ host.Host }

func (b bookOf) Whereabouts(_ context.Context, _, id peer.ID) (api.Member, error) {
	return api.Member{ID: id, Addresses: b.Peerstore().Addrs(id)}, nil
}

// wrongBook tells the address of another peer.
type wrongBook struct{ host.Host }

func (b wrongBook) Whereabouts(_ context.Context, _, id peer.ID) (api.Member, error) {
	return api.Member{ID: id, Addresses: b.Addrs()}, nil
}

// Two members that have both moved find one another through a third that
// reaches both; a wrong answer connects nobody.
func TestFoundThroughAMember(t *testing.T) {
	info := NewClusterInfo()
	a, b, c := timelessHost(t, info), timelessHost(t, info), timelessHost(t, info)
	for _, h := range []host.Host{a, c} {
		if err := b.Connect(t.Context(), peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}); err != nil {
			t.Fatal(err)
		}
	}
	known := []api.Member{{ID: a.ID()}, {ID: b.ID()}, {ID: c.ID(), Addresses: []multiaddr.Multiaddr{}}}
	findThrough(t.Context(), a, wrongBook{b}, known, c.ID(), 0)
	if a.Network().Connectedness(c.ID()) == network.Connected {
		t.Error("connected at the address of another peer")
	}
	findThrough(t.Context(), a, bookOf{b}, known, c.ID(), 1)
	if a.Network().Connectedness(c.ID()) != network.Connected {
		t.Error("not connected at the address that the third told")
	}
}
