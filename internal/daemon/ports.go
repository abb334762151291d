package daemon

import (
	"errors"
	"fmt"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"holdfast/config"
)

// checkSwarmPorts returns an error that names every address of the two swarms
// that another process uses. libp2p would not notice: it shares its TCP ports
// (SO_REUSEPORT), so that two peers with one address would each get some of the
// connections meant for the other.
func checkSwarmPorts(c config.Config) error {
	var problems []error
	for _, swarm := range []struct {
		name string
		at   []string
	}{{"cluster.listen", c.ClusterListen}, {"ipfs.swarm", c.IPFSSwarm}} {
		for _, text := range swarm.at {
			if err := checkFree(text); err != nil {
				problems = append(problems, fmt.Errorf("%s: cannot listen on %s: %w; is another peer running? Choose another with %s",
					swarm.name, text, err, config.Variable(swarm.name)))
			}
		}
	}
	return errors.Join(problems...)
}

// checkFree listens on an address for a moment. What is no IP address with a
// TCP or UDP port is left to libp2p.
func checkFree(text string) error {
	addr, err := multiaddr.NewMultiaddr(text)
	if err != nil {
		return err
	}
	if len(addr) < 2 {
		return nil
	}
	socket := addr[:2]
	switch socket[1].Protocol().Code {
	case multiaddr.P_TCP:
		l, err := manet.Listen(socket)
		if err != nil {
			return err
		}
		return l.Close()
	case multiaddr.P_UDP:
		l, err := manet.ListenPacket(socket)
		if err != nil {
			return err
		}
		return l.Close()
	}
	return nil
}
