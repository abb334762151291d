package node

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/kubo/config"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// TestConfigSpeaksToNobody looks at every way out that Kubo's config has.
func TestConfigSpeaksToNobody(t *testing.T) {
	identity, err := config.CreateIdentity(&strings.Builder{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := Config{Dir: "d"}.withDefaults().newKuboConfig(identity)
	if err != nil {
		t.Fatal(err)
	}
	text, err := config.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{`"auto"`, "http://", "https://", "/dns", "dnsaddr", "0.0.0.0", "/ip4/", "/ip6/"} {
		if strings.Contains(string(text), word) {
			t.Errorf("config contains %s:\n%s", word, text)
		}
	}
	for name, on := range map[string]bool{
		"autoconf":       k.AutoConf.Enabled.WithDefault(true),
		"autotls":        k.AutoTLS.Enabled.WithDefault(true),
		"mdns":           k.Discovery.MDNS.Enabled,
		"port mapping":   !k.Swarm.DisableNatPortMap,
		"relay":          k.Swarm.Transports.Network.Relay.WithDefault(true),
		"relay client":   k.Swarm.RelayClient.Enabled.WithDefault(true),
		"relay service":  k.Swarm.RelayService.Enabled.WithDefault(true),
		"hole punching":  k.Swarm.EnableHolePunching.WithDefault(true),
		"autonat":        k.AutoNAT.ServiceMode != config.AutoNATServiceDisabled,
		"providing":      k.Provide.Enabled.WithDefault(true),
		"HTTP retrieval": k.HTTPRetrieval.Enabled.WithDefault(true),
		"version check":  k.Version.SwarmCheckEnabled.WithDefault(true),
		"DNSLink":        !k.Gateway.NoDNSLink,
		"bootstrap":      len(k.Bootstrap) > 0,
		"routers":        len(k.Routing.DelegatedRouters) > 0 || k.Routing.Type.WithDefault("auto") != "none",
		"publishers":     len(k.Ipns.DelegatedPublishers) > 0,
		"listening":      len(k.Addresses.Swarm)+len(k.Addresses.API)+len(k.Addresses.Gateway) > 0,
		"DoH":            len(k.DNS.Resolvers) != 1 || k.DNS.Resolvers["eth."] != "",
	} {
		if on {
			t.Errorf("%s is on", name)
		}
	}
}

// TestExistingRepositoryIsOverruled gives the node a config as Kubo makes it.
func TestExistingRepositoryIsOverruled(t *testing.T) {
	identity, err := config.CreateIdentity(&strings.Builder{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := config.InitWithIdentity(identity)
	if err != nil {
		t.Fatal(err)
	}
	k.API.HTTPHeaders = map[string][]string{"Access-Control-Allow-Origin": {"*"}}
	Config{Dir: "d"}.withDefaults().overlay(k)
	text, err := config.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{`"auto"`, "https://", "0.0.0.0", "Allow-Origin"} {
		if strings.Contains(string(text), word) {
			t.Errorf("config contains %s:\n%s", word, text)
		}
	}
}

// TestDialsOnlyPeers watches the connections of two nodes that are peers, and
// of which one once knew a third.
func TestDialsOnlyPeers(t *testing.T) {
	ctx := testContext(t)
	ca := testConfig(t)
	a, stopA := startStoppable(t, ca)
	c := start(t, testConfig(t))
	b := start(t, testConfig(t))
	dials := func(n *Node) (out []string) {
		for _, conn := range n.open.core.PeerHost.Network().Conns() {
			if !manet.IsIPLoopback(conn.RemoteMultiaddr()) {
				t.Errorf("a connection with %s, which is not the loopback", conn.RemoteMultiaddr())
			}
			if conn.Stat().Direction == network.DirOutbound {
				out = append(out, conn.RemotePeer().String())
			}
		}
		return out
	}
	acquaint(a, c)
	waitConnected(t, ctx, a, c.ID())
	stopA()
	a = start(t, ca)
	for _, n := range []*Node{a, b, c} {
		for _, addr := range n.Addresses() {
			if host, _ := multiaddr.SplitFunc(addr, func(c multiaddr.Component) bool { return c.Protocol().Code == multiaddr.P_TCP }); !manet.IsIPLoopback(host) {
				t.Errorf("a node listens on %s", addr)
			}
		}
	}
	if got := dials(a); len(got) != 0 {
		t.Errorf("after a restart the node dialled %v", got)
	}
	a.Peer([]peer.AddrInfo{info(b)})
	b.Peer([]peer.AddrInfo{info(a)})
	lower, higher := a, b
	if b.ID() < a.ID() {
		lower, higher = b, a
	}
	waitConnected(t, ctx, lower, higher.ID())
	if got := dials(lower); len(got) != 1 || got[0] != higher.ID().String() {
		t.Errorf("the lower peer dialled %v", got)
	}
	if got := dials(higher); len(got) != 0 {
		t.Errorf("the higher peer dialled %v", got)
	}
	if entries, err := os.ReadDir(filepath.Join(os.Getenv("HOME"), ".ipfs")); err == nil {
		t.Errorf("a folder %v appeared in the home", entries)
	}
}

func waitConnected(t *testing.T, ctx context.Context, n *Node, id peer.ID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	came := make(chan struct{}, 8)
	notify := &network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { came <- struct{}{} }}
	n.open.core.PeerHost.Network().Notify(notify)
	defer n.open.core.PeerHost.Network().StopNotify(notify)
	for !connected(n.open, id) {
		select {
		case <-came:
		case <-ctx.Done():
			t.Fatalf("%s did not connect to %s", n.ID(), id)
		}
	}
}
