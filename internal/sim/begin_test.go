package sim

import (
	"context"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/cluster"
)

// atOnce pins through a peer that has just become ready, with the least replicas,
// and does not ask again.
func (c *Cluster) atOnce(p *Peer, number, least int) {
	c.t.Helper()
	err := c.Use(p, time.Minute, func(ctx context.Context, via *cluster.Cluster) error {
		_, err := via.Allocate(ctx, replicas(least, least))
		if err == nil {
			_, err = via.Pin(ctx, api.PinRequest{Cid: Cid(number), Options: api.PinOptions{ReplicationFactorMin: least, ReplicationFactorMax: least, Origins: c.origins()}})
		}
		return err
	})
	if err != nil {
		c.t.Errorf("seed %d: %d replicas through %s: %v", c.options.Seed, least, p.Name, err)
	}
}

// quiet looks for a time that no peer says that it has no leader.
func (c *Cluster) quiet(d time.Duration) {
	c.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, p := range c.Peers() {
			err := c.Use(p, time.Minute, func(_ context.Context, via *cluster.Cluster) error {
				for _, alert := range via.Alerts() {
					if alert.Name == api.AlertNoLeader {
						c.t.Errorf("seed %d: %s says %s", c.options.Seed, p.Name, alert.Message)
					}
				}
				return nil
			})
			if err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// TestWriteAtOnce: a peer that says it is ready takes writes, also when the IPFS
// nodes of its peers have opened long after the log, and so does a new leader.
func TestWriteAtOnce(t *testing.T) {
	for name, opening := range map[string]time.Duration{"at once": 0, "slow": 1500 * time.Millisecond, "slower": 6 * time.Second} {
		for _, n := range []int{1, 3} {
			t.Run(name, func(t *testing.T) {
				simulate(t, Options{Peers: n, Opening: opening}, func(c *Cluster) {
					all := c.Peers()
					c.atOnce(all[0], 0, n)
					for _, p := range all {
						p.Stop()
					}
					time.Sleep(time.Minute)
					c.Start()
					c.atOnce(all[n-1], 1, n)
					c.quiet(10 * time.Second)
					if n == 1 {
						return
					}
					leader := c.Leader()
					leader.Crash(0)
					next := c.others(leader)
					c.atOnce(next[0], 2, 2)
					time.Sleep(30 * time.Second) // it is down
					c.Start(leader)
					c.atOnce(leader, 3, 3)
					second := c.Leader()
					second.Crash(0)
					c.Start(second)
					c.atOnce(second, 4, 3)
				})
			})
		}
	}
}
