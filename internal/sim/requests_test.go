package sim

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/cluster"
)

// TestLeaderDiesBeforeReply: a request that was committed and not answered is
// repeated, and gets the same pin.
func TestLeaderDiesBeforeReply(t *testing.T) {
	simulate(t, three, func(c *Cluster) {
		leader := c.Leader()
		rest := c.others(leader)
		asked, witness := rest[0], rest[1]
		c.net.block(leader.ID, asked.ID, true) // the answer's way
		_, err := c.request(asked, 1, "once", 300*time.Millisecond)
		if err == nil || harmless(err) {
			t.Fatalf("the lost answer gave: %v", err)
		}
		c.until("the commit", func() error { return c.has(witness, 1) })
		var first api.Pin
		c.must(c.Use(witness, requestLimit, func(ctx context.Context, via *cluster.Cluster) (err error) {
			first, err = via.Allocation(ctx, Cid(1))
			return err
		}))
		leader.Crash(0)
		c.net.heal()
		again, err := c.request(asked, 1, "once", time.Minute)
		c.must(err)
		if again.Pin.Revision != first.Revision || again.Index != first.Revision || !slices.Equal(again.Pin.Allocations, first.Allocations) {
			t.Errorf("INV-ONCE: the repeat gave revision %d at %d, the first was %d", again.Pin.Revision, again.Index, first.Revision)
		}
	})
}

// TestRepeatWithoutRoom: the repeat of a request that was carried out gets the
// first answer, even if the same could not be decided now.
func TestRepeatWithoutRoom(t *testing.T) {
	simulate(t, three, func(c *Cluster) {
		leader := c.Leader()
		rest := c.others(leader)
		pin := func(limit time.Duration) (result api.PinResult, err error) {
			err = c.Use(rest[0], limit, func(ctx context.Context, via *cluster.Cluster) (err error) {
				options := replicas(3, 3)
				options.Origins = c.origins()
				result, err = via.Pin(ctx, api.PinRequest{Cid: Cid(1), RequestID: "once", Options: options})
				return err
			})
			return result, err
		}
		c.net.block(leader.ID, rest[0].ID, true)
		if _, err := pin(300 * time.Millisecond); err == nil || harmless(err) {
			t.Fatalf("the lost answer gave: %v", err)
		}
		c.until("the commit", func() error { return c.has(rest[1], 1) })
		leader.Crash(0)
		c.net.heal()
		time.Sleep(30 * time.Second) // the dead one is known to be dead
		again, err := pin(time.Minute)
		if err != nil {
			t.Errorf("INV-ONCE: the pin is stored, and the repeat of its request says: %v", err)
		} else if len(again.Pin.Allocations) != 3 {
			t.Errorf("INV-ONCE: the repeat was decided anew: %v", again.Pin.Allocations)
		}
	})
}

// TestSamePinTwice: two peers pin the same CID at once; one allocation wins and
// both callers see it.
func TestSamePinTwice(t *testing.T) {
	simulate(t, Options{Peers: 5}, func(c *Cluster) {
		for number := range 20 {
			results := make([]api.PinResult, len(c.Peers()))
			var asked sync.WaitGroup
			for i, p := range c.Peers() {
				asked.Go(func() {
					var err error
					if results[i], err = c.request(p, number, p.Name+Cid(number).String(), time.Minute); err != nil {
						t.Errorf("%s: %v", p.Name, err)
					}
				})
			}
			asked.Wait()
			last := slices.MaxFunc(results, func(a, b api.PinResult) int { return int(a.Pin.Revision) - int(b.Pin.Revision) })
			for i, r := range results {
				if !slices.Equal(r.Pin.Allocations, last.Pin.Allocations) {
					t.Errorf("%s was told %v, the pin is on %v", c.Peers()[i].Name, r.Pin.Allocations, last.Pin.Allocations)
				}
			}
			if got := c.Allocations(number); !slices.Equal(got, last.Pin.Allocations) {
				t.Errorf("pin %d is on %v, the last caller was told %v", number, got, last.Pin.Allocations)
			}
		}
	})
}

// TestOldLeaderCannotAcknowledge: a leader that is cut off confirms neither
// writes nor consistent reads, and what it was asked for is not half done.
func TestOldLeaderCannotAcknowledge(t *testing.T) {
	simulate(t, three, func(c *Cluster) {
		old := c.Leader()
		c.Isolate(old, true)
		var asked sync.WaitGroup
		asked.Go(func() {
			if _, err := c.request(old, 1, "in vain", 30*time.Second); err == nil {
				t.Error("INV-ACK: a leader without followers acknowledged a pin")
			}
		})
		asked.Go(func() {
			err := c.Use(old, 30*time.Second, func(ctx context.Context, via *cluster.Cluster) error { return via.Barrier(ctx) })
			if err == nil {
				t.Error("INV-LINEAR: a leader without followers confirmed a read")
			}
		})
		for number := 2; number < 12; number++ {
			c.Pin(c.others(old)[number%2], number, api.PinOptions{})
		}
		asked.Wait()
		c.Isolate(old, false)
		for number := 2; number < 12; number++ {
			c.until("the pins of the majority", func() error { return c.has(old, number) })
		}
	})
}

// TestRepeatAfterSnapshot: a request id is remembered by a peer that knows of
// the request only from a snapshot, and through restarts of all.
func TestRepeatAfterSnapshot(t *testing.T) {
	simulate(t, Options{Peers: 3, Pace: smallSnapshots}, func(c *Cluster) {
		late := c.Follower()
		c.Isolate(late, true)
		first, err := c.request(c.others(late)[0], 100, "once", time.Minute)
		c.must(err)
		c.churn(c.others(late)[1], 0)
		sent := c.net.snapshots.Load()
		c.Isolate(late, false)
		c.until("the pin", func() error { return c.has(late, 100) })
		if c.net.snapshots.Load() == sent {
			t.Fatal("no snapshot was sent")
		}
		c.MakeLeader(late)
		check := func(when string) {
			again, err := c.request(late, 100, "once", time.Minute)
			c.must(err)
			if again.Pin.Revision != first.Pin.Revision || again.Index != first.Index {
				t.Errorf("INV-ONCE: %s the repeat gave revision %d at %d, the first was %d at %d", when,
					again.Pin.Revision, again.Index, first.Pin.Revision, first.Index)
			}
		}
		check("from a snapshot")
		for _, p := range c.Peers() {
			p.Crash(50)
		}
		c.Start()
		check("after a restart")
	})
}
