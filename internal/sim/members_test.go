package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/cluster"
	"holdfast/config"
)

// TestDeadPeer: the pins of a dead peer get other holders after the grace, and
// the peer drops its copies when it is back.
func TestDeadPeer(t *testing.T) {
	for name, grace := range map[string]struct {
		options      api.PinOptions
		before, then time.Duration // nothing moves, everything has moved
	}{
		"below the minimum": {replicas(2, 2), 5 * time.Second, 30 * time.Second},
		"below the maximum": {replicas(1, 2), 50 * time.Second, 100 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, Options{Peers: 4}, func(c *Cluster) {
				dead := c.Follower()
				for number := range 10 {
					options := grace.options
					options.UserAllocations = []peer.ID{dead.ID}
					c.Pin(c.Leader(), number, options)
				}
				c.AwaitSettled()
				dead.Crash(50)
				time.Sleep(grace.before)
				for number := range 10 {
					if !slices.Contains(c.Allocations(number), dead.ID) {
						t.Errorf("pin %d was moved before the grace was over", number)
					}
				}
				time.Sleep(grace.then - grace.before)
				for number := range 10 {
					if slices.Contains(c.Allocations(number), dead.ID) {
						t.Errorf("pin %d was not moved", number)
					}
				}
				c.AwaitSettled()
				c.Start(dead)
				c.AwaitSettled()
				if held := dead.Disk.Pins(); len(held) != 0 {
					t.Errorf("the peer that came back still holds %v", held)
				}
			})
		})
	}
}

// TestRemovedPeer: a removed peer's pins move, and it has no say any more,
// even if it goes on running.
func TestRemovedPeer(t *testing.T) {
	simulate(t, Options{Peers: 4}, func(c *Cluster) {
		removed := c.Leader() // the hard case
		for number := range 20 {
			c.Pin(c.any(c.dice()), number, replicas(2, 2))
		}
		c.must(c.Use(c.others(removed)[0], time.Minute, func(ctx context.Context, via *cluster.Cluster) error {
			return via.RemovePeer(ctx, api.RemoveRequest{Peer: removed.ID})
		}))
		removed.removed = true
		c.AwaitSettled()
		if err := within(30*time.Second, func(ctx context.Context) error {
			_, err := c.request(removed, 50, "from outside", 30*time.Second)
			return err
		}); err == nil {
			t.Error("INV-MEMBERS: a removed peer got a pin accepted")
		}
		removed.Crash(0)
		c.Start(removed)
		c.AwaitSettled()
	})
}

// TestStrangeLeader: while a peer is away another joins and comes to lead. The
// peer must let it in, whom it has never heard of.
func TestStrangeLeader(t *testing.T) {
	simulate(t, three, func(c *Cluster) {
		away := c.Follower()
		away.Crash(0)
		fresh := c.Join()
		c.until("a vote for the new peer", func() error {
			if !slices.Contains(c.votes(), fresh) {
				return errors.New("it has none")
			}
			return nil
		})
		c.MakeLeader(fresh)
		// One of the old ones is left that could vouch for it.
		gone := c.others(away, fresh)[0]
		gone.Crash(0)
		c.Start(away)
		c.Pin(away, 1, api.PinOptions{})
		c.MakeLeader(fresh)
		c.Pin(away, 2, api.PinOptions{})
	})
}

// TestAllCrash: all peers lose power at once, in the middle of work, several
// times.
func TestAllCrash(t *testing.T) {
	for _, unsynced := range []int{0, 50, 100} {
		t.Run(fmt.Sprint(unsynced), func(t *testing.T) {
			simulate(t, Options{Peers: 3, Pace: smallSnapshots}, func(c *Cluster) {
				w := &Workload{Clients: 6, Keys: 5, Each: 1000, Think: 300 * time.Millisecond}
				w.Begin(c)
				for range 4 {
					time.Sleep(5 * time.Second)
					for _, p := range c.Peers() {
						p.Crash(unsynced)
					}
					time.Sleep(time.Second)
					c.Start()
				}
				w.End()
			})
		})
	}
}

// TestDrainedVoters: with fewer votes than peers, learners replicate, serve,
// and take the votes of those who are removed.
func TestDrainedVoters(t *testing.T) {
	few := Options{Peers: 5, Configure: func(settings *config.Config) { settings.Voters = 3 }}
	simulate(t, few, func(c *Cluster) {
		for number := range 10 {
			c.Pin(c.Peers()[number%5], number, replicas(2, 3))
		}
		for _, p := range c.others(c.Leader())[:2] {
			c.must(c.Use(c.Leader(), time.Minute, func(ctx context.Context, via *cluster.Cluster) error {
				return via.RemovePeer(ctx, api.RemoveRequest{Peer: p.ID})
			}))
			p.removed = true
			p.Stop()
			c.awaitVotes(3)
		}
		for number := 10; number < 20; number++ {
			c.Pin(c.members()[number%3], number, replicas(2, 3))
		}
	})
}
