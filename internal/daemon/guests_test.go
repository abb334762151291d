package daemon

import (
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"

	"holdfast/api"
	"holdfast/config"
	"holdfast/internal/crowd"
	"holdfast/rpc"
)

// stranger knows the secret, speaks from an address and is connected.
func (v *victim) stranger(t *testing.T, from string) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.PrivateNetwork(v.secret), libp2p.Transport(tcp.NewTCPTransport), libp2p.Security(noise.ID, noise.New),
		libp2p.DisableRelay(), libp2p.ListenAddrStrings("/ip4/"+from+"/tcp/0"), libp2p.ResourceManager(nil))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	h.Peerstore().AddAddrs(v.at.ID, v.at.Addrs, peerstore.PermanentAddrTTL)
	return h
}

// Two hundred strangers of one address who know the swarm's secret, and hold
// connections and half a question each, keep nobody from joining: neither one
// of another address nor one of theirs.
func TestStrangersLockNobodyOut(t *testing.T) {
	v := startVictim(t)
	for range 200 {
		s, err := v.stranger(t, "127.0.0.2").NewStream(t.Context(), v.at.ID, api.JoinProtocol)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write([]byte{0, 0}) // it may be on its way out already
	}
	guests := map[string]int{}
	for _, c := range v.daemon.host.Network().Conns() {
		guests[crowd.AddressOf(c.RemoteMultiaddr()).String()]++
	}
	if n := guests["127.0.0.2/32"]; n == 0 || n > maxGuestsPerAddress {
		t.Errorf("guests of the strangers' address: %v", guests)
	}
	for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
		token, err := v.daemon.CreateToken(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := ParseJoinToken(token.Token)
		if err != nil {
			t.Fatal(err)
		}
		identity, err := NewIdentity()
		if err != nil {
			t.Fatal(err)
		}
		c := config.New()
		c.PeerName, c.ClusterListen = "joins from "+from, []string{"/ip4/" + from + "/tcp/0"}
		if err := Join(t.Context(), t.TempDir(), parsed, identity, c, api.Version{Version: "test"}); err != nil {
			t.Errorf("from %s: %v", from, err)
		}
	}
}

// Streams that a guest opens and never says what for leave room for those of
// members, of which none is turned away.
func TestSilentStreamsOfGuests(t *testing.T) {
	v := startVictim(t)
	member := v.host(t)
	v.join(t, member)
	for range 8 {
		h := v.stranger(t, "127.0.0.2")
		if err := h.Connect(t.Context(), v.at); err != nil {
			t.Fatal(err)
		}
		for range 500 {
			if s, err := h.Network().NewStream(t.Context(), v.at.ID); err == nil {
				t.Cleanup(func() { _ = s.Reset() })
			}
		}
	}
	for range 20 {
		if _, err := rpc.NewClient(rpc.NewTransport(member)).ID(t.Context(), v.at.ID); err != nil {
			t.Errorf("a member is not heard: %v", err)
		}
	}
}
