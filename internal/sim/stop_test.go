package sim

import (
	"testing"
	"time"
)

// TestStopSlowLeader: a leader whose disk keeps raft waiting stops in order,
// whatever it was doing.
func TestStopSlowLeader(t *testing.T) {
	simulate(t, Options{Peers: 3}, func(c *Cluster) {
		w := &Workload{Clients: 5, Keys: 6, Each: 1000, Think: 200 * time.Millisecond}
		w.Begin(c)
		for range 10 {
			p := c.Leader()
			p.slow.Store(int64(3 * time.Second))
			time.Sleep(time.Second)
			p.Stop()
			p.slow.Store(0)
			c.Start(p)
		}
		w.End()
	})
}
