//go:build e2e

package e2e

import (
	"testing"
	"time"

	"holdfast/api"
)

// A leader is killed under default timeouts; the time to the first write that
// another peer accepts is told, not judged: it depends on the machine.
func TestFailoverTime(t *testing.T) {
	c := newCluster(t, 3, nil)
	for round := range uint64(3) {
		leader := c.leader()
		var other *testPeer
		for _, p := range c.peers {
			if p != leader {
				other = p
			}
		}
		if _, err := other.rest.Pin(t.Context(), rawCid(t, 8, 2*round), api.PinOptions{}); err != nil {
			t.Fatal(err)
		}
		leader.kill()
		begun := time.Now()
		if _, err := other.rest.Pin(t.Context(), rawCid(t, 8, 2*round+1), api.PinOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Logf("leader killed, next write accepted after %s", time.Since(begun).Round(time.Millisecond))
		leader.startReady()
		c.waitWhole()
	}
	c.samePinset(time.Minute)
}
