//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"holdfast/api"
)

// All three peers are stopped and come back at new addresses. Nobody knows
// where the others are, but one of them is told; the new addresses are then the
// cluster's, and nobody needs to be told again.
func TestAllAddressesChange(t *testing.T) {
	c := newCluster(t, 3, nil)
	stop := func() {
		for _, p := range c.peers {
			if _, err := p.stop(startTime); err != nil {
				t.Errorf("%s stopped with %v", p.name, err)
			}
		}
	}
	start := func() {
		for _, p := range c.peers {
			p.start() // one that is alone waits for the others before it answers
		}
		for _, p := range c.peers {
			p.waitReady(startTime)
		}
		c.waitWhole()
	}
	stop()
	var all []string
	for _, p := range c.peers {
		p.ports.cluster = freePort(t)
		p.env["CLUSTER_CLUSTER_LISTEN"] = loopback(p.ports.cluster)
		all = append(all, loopback(p.ports.cluster))
	}
	told := c.peers[1]
	told.env["CLUSTER_JOIN"] = strings.Join(all, ",")
	start()
	if _, err := c.peers[0].rest.Pin(t.Context(), rawCid(t, 1, 1), api.PinOptions{}); err != nil {
		t.Errorf("a write after all: %v", err)
	}
	stop()
	delete(told.env, "CLUSTER_JOIN")
	start()
}
