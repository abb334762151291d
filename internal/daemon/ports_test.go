package daemon

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p"

	"holdfast/config"
)

func TestBusySwarmPortIsNamed(t *testing.T) {
	host, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	tcp := host.Addrs()[0].String()
	udp := fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", packets.LocalAddr().(*net.UDPAddr).Port)

	c := config.New()
	c.ClusterListen, c.IPFSSwarm = []string{tcp}, []string{"/ip4/127.0.0.1/tcp/0", udp}
	err = checkSwarmPorts(c)
	if err == nil {
		t.Fatal("two busy addresses were not noticed")
	}
	for _, want := range []string{"cluster.listen", tcp, "CLUSTER_CLUSTER_LISTEN", "ipfs.swarm", udp} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	c.ClusterListen, c.IPFSSwarm = []string{"/ip4/127.0.0.1/tcp/0/ws"}, []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/dns4/localhost/tcp/0"}
	if err := checkSwarmPorts(c); err != nil {
		t.Errorf("free addresses: %v", err)
	}
}
