package node

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

var doors = map[string]string{
	"tcp":       "/ip4/127.0.0.1/tcp/0",
	"websocket": "/ip4/127.0.0.1/tcp/0/ws",
	"quic":      "/ip4/127.0.0.1/udp/0/quic-v1",
}

// foreign is a node that would gladly connect with whomever it is given.
func foreign(t *testing.T, listen string, others ...*Node) *Node {
	c := testConfig(t)
	c.SwarmListen, c.StallTimeout, c.StallLimit = []string{listen}, 300*time.Millisecond, 2
	for _, n := range others {
		c.Admit = append(c.Admit, n.ID())
	}
	return start(t, c)
}

// TestForeignNodeIsRefused has a node that is no member's dial a private node,
// with every transport: no connection comes to be, and no block leaves. As soon
// as it is a member's, both are as between any members; and when it is no more,
// it is turned out.
func TestForeignNodeIsRefused(t *testing.T) {
	for name, listen := range doors {
		t.Run(name, func(t *testing.T) {
			ctx := testContext(t)
			c := testConfig(t)
			c.SwarmListen = []string{listen}
			n := start(t, c)
			other := foreign(t, listen, n)
			events := watchConnections(n)
			secret, second := rawBlock(t, []byte("secret")), rawBlock(t, []byte("another"))
			if err := n.PutBlocks(ctx, []blocks.Block{secret, second}); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				// The one that dials may take itself to be connected for a moment.
				_ = other.open.core.PeerHost.Connect(ctx, info(n))
			}
			if err := other.Fetch(ctx, dataPin(secret.Cid()), []peer.AddrInfo{info(n)}, nil); !errors.Is(err, api.ErrUnavailable) {
				t.Errorf("a foreign node fetches: %v", err)
			}
			if err := n.open.core.PeerHost.Connect(ctx, info(other)); err == nil {
				t.Error("a private node dials a foreign one")
			}
			if got := events.seen(other.ID()); got != 0 || connected(n.open, other.ID()) {
				t.Errorf("%d connections came to be", got)
			}

			acquaint(n, other)
			if err := other.Fetch(ctx, dataPin(secret.Cid()), []peer.AddrInfo{info(n)}, nil); err != nil {
				t.Errorf("a member fetches: %v", err)
			}
			gone := events.gone(other.ID())
			n.Peer(nil)
			select {
			case <-gone:
			case <-ctx.Done():
				t.Fatal("a former member stays connected")
			}
			if err := other.Fetch(ctx, dataPin(second.Cid()), []peer.AddrInfo{info(n)}, nil); !errors.Is(err, api.ErrUnavailable) {
				t.Errorf("a former member fetches: %v", err)
			}
		})
	}
}

// TestNewMemberComesInSoon has a member dial one that has not heard of it yet.
func TestNewMemberComesInSoon(t *testing.T) {
	ctx := testContext(t)
	a, b := start(t, testConfig(t)), start(t, testConfig(t))
	lower, higher := a, b
	if b.ID() < a.ID() {
		lower, higher = b, a
	}
	_ = lower.open.core.PeerHost.Connect(ctx, info(higher)) // refused on this side
	lower.Peer([]peer.AddrInfo{info(higher)})
	_ = lower.open.core.PeerHost.Connect(ctx, info(higher)) // refused on the other
	higher.Peer([]peer.AddrInfo{info(lower)})
	waitConnected(t, ctx, higher, lower.ID())
}

// TestAdmittedNodes lets in who is named in the config, and none else.
func TestAdmittedNodes(t *testing.T) {
	ctx := testContext(t)
	friend := foreign(t, doors["tcp"])
	c := testConfig(t)
	c.Admit = []peer.ID{friend.ID()}
	n := start(t, c)
	friend.Peer([]peer.AddrInfo{info(n)})
	blk := rawBlock(t, []byte("for a friend"))
	if err := friend.PutBlocks(ctx, []blocks.Block{blk}); err != nil {
		t.Fatal(err)
	}
	n.Peer(nil) // members or not
	if err := n.Fetch(ctx, dataPin(blk.Cid()), []peer.AddrInfo{info(friend)}, nil); err != nil {
		t.Errorf("from a node that is admitted: %v", err)
	}
	for _, c := range []Config{{Public: true}, {Private: true}} {
		if (&Node{config: c}).admits("anybody") != true {
			t.Errorf("%+v refuses", c)
		}
	}
	bootstrap := (&Node{config: Config{Bootstrap: []string{info(friend).Addrs[0].String() + "/p2p/" + friend.ID().String()}}})
	if !bootstrap.admits(friend.ID()) || bootstrap.admits(n.ID()) {
		t.Error("bootstrap peers are admitted, and no others")
	}
}

// TestRefusalsSayWhy asks a private node to connect with a foreign one.
func TestRefusalsSayWhy(t *testing.T) {
	ctx := testContext(t)
	c := testConfig(t)
	c.StallTimeout, c.StallLimit = 200*time.Millisecond, 1
	n := start(t, c)
	other := foreign(t, doors["tcp"], n)
	address := other.Addresses()[0].String()
	code, body := rpc(t, n, "swarm/connect?arg="+url.QueryEscape(address))
	if code != http.StatusForbidden || !strings.Contains(body, "ipfs.public is false") || !strings.Contains(body, other.ID().String()) {
		t.Errorf("swarm/connect: %d %s", code, body)
	}
	if code, body := rpc(t, n, "swarm/connect?arg="+url.QueryEscape(info(other).Addrs[0].String())); code == http.StatusOK {
		t.Errorf("swarm/connect without an ID: %s", body)
	}
	origin := rawBlock(t, []byte("elsewhere"))
	if err := other.PutBlocks(ctx, []blocks.Block{origin}); err != nil {
		t.Fatal(err)
	}
	err := n.Fetch(ctx, dataPin(origin.Cid()), []peer.AddrInfo{info(other)}, nil)
	if !errors.Is(err, api.ErrUnavailable) || !strings.Contains(err.Error(), "ipfs.admit") || !strings.Contains(err.Error(), other.ID().String()) {
		t.Errorf("fetch from an origin: %v", err)
	}
	if connected(n.open, other.ID()) {
		t.Error("connected")
	}
}

// connections are the events of a node's swarm.
type connections struct {
	network network.Network
	opened  chan peer.ID
}

func watchConnections(n *Node) *connections {
	c := &connections{network: n.open.core.PeerHost.Network(), opened: make(chan peer.ID, 256)}
	c.network.Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, conn network.Conn) { c.opened <- conn.RemotePeer() }})
	return c
}

// seen is how many connections with a peer have been opened since it was asked.
func (c *connections) seen(id peer.ID) int {
	var all []peer.ID
	for len(c.opened) > 0 {
		all = append(all, <-c.opened)
	}
	return len(slices.DeleteFunc(all, func(p peer.ID) bool { return p != id }))
}

// gone is closed when the last connection with a peer has ended.
func (c *connections) gone(id peer.ID) <-chan struct{} {
	ctx, cancel := context.WithCancel(context.Background())
	c.network.Notify(&network.NotifyBundle{DisconnectedF: func(nw network.Network, conn network.Conn) {
		if conn.RemotePeer() == id && nw.Connectedness(id) != network.Connected {
			cancel()
		}
	}})
	return ctx.Done()
}
