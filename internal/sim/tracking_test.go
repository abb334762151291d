package sim

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/cluster"
	"holdfast/node/fake"
)

// TestCrashBeforeNodePin: a peer dies after its pinset has a pin and before
// its node does, at each step of the way.
func TestCrashBeforeNodePin(t *testing.T) {
	for _, step := range []string{"fetch", "write", "pin"} {
		t.Run(step, func(t *testing.T) {
			simulate(t, three, func(c *Cluster) {
				p := c.Follower()
				inc := p.now.Load()
				reached := make(chan struct{})
				var once sync.Once
				fault := func(op fake.Op) error {
					if op.Name != step {
						return nil
					}
					once.Do(func() { close(reached) })
					<-inc.dead
					return errPowerless
				}
				p.fault.Store(&fault)
				c.Pin(c.Leader(), 1, replicas(api.Everywhere, api.Everywhere))
				<-reached
				p.Crash(0)
				p.fault.Store(nil)
				<-inc.done
				if slices.Contains(p.Disk.Pins(), Cid(1).Cid) {
					t.Fatal("the node has pinned already")
				}
				c.Start(p)
				c.awaitStatus(p, 1, api.StatusPinned)
			})
		})
	}
}

// TestUnpinRacesSlowPin: unpins meet pins at every stage.
func TestUnpinRacesSlowPin(t *testing.T) {
	simulate(t, three, func(c *Cluster) {
		dice := c.dice()
		unpin := func(through *Peer, number int) {
			c.must(c.Use(through, time.Minute, func(ctx context.Context, via *cluster.Cluster) error {
				_, err := via.Unpin(ctx, api.UnpinRequest{Cid: Cid(number)})
				return err
			}))
		}
		var all sync.WaitGroup
		for number := originContent; number < originContent+30; number++ {
			pauses := make([]time.Duration, 6)
			for i := range pauses {
				pauses[i] = time.Duration(dice.Int64N(int64(10 * time.Millisecond)))
			}
			through, another := c.any(dice), c.any(dice)
			all.Go(func() {
				c.Pin(through, number, replicas(2, 2))
				time.Sleep(pauses[0])
				c.Publish(number)
				time.Sleep(pauses[1])
				unpin(another, number)
				time.Sleep(pauses[2])
				c.Pin(through, number, replicas(2, 3))
				time.Sleep(pauses[3])
				if number%2 == 0 {
					unpin(another, number)
				}
			})
		}
		all.Wait()
		c.AwaitSettled()
		for _, p := range c.Peers() {
			for number := originContent; number < originContent+30; number += 2 {
				if slices.Contains(p.Disk.Pins(), Cid(number).Cid) {
					t.Errorf("%s still has %d", p.Name, number)
				}
			}
		}
	})
}

// TestSnapshotWhileTracking: a peer that was cut off gets a snapshot while its
// tracker works on what it knew before.
func TestSnapshotWhileTracking(t *testing.T) {
	simulate(t, Options{Peers: 3, Pace: smallSnapshots}, func(c *Cluster) {
		late := c.Follower()
		everywhere := replicas(api.Everywhere, api.Everywhere)
		for number := originContent; number < originContent+10; number++ {
			c.Pin(c.Leader(), number, everywhere) // nobody has them yet
		}
		c.awaitStatus(late, originContent, api.StatusPinning)
		c.Isolate(late, true)
		for number := originContent; number < originContent+5; number++ {
			c.must(c.Use(c.others(late)[0], time.Minute, func(ctx context.Context, via *cluster.Cluster) error {
				_, err := via.Unpin(ctx, api.UnpinRequest{Cid: Cid(number)})
				return err
			}))
		}
		c.churn(c.others(late)[0], 0)
		sent := c.net.snapshots.Load()
		c.Isolate(late, false)
		c.until("a snapshot", func() error {
			if c.net.snapshots.Load() == sent {
				return errors.New("none was sent")
			}
			return nil
		})
		for number := originContent; number < originContent+10; number++ {
			c.Publish(number)
		}
		c.AwaitSettled()
		for number := originContent; number < originContent+10; number++ {
			if held := slices.Contains(late.Disk.Pins(), Cid(number).Cid); held != (number >= originContent+5) {
				t.Errorf("pin %d: held %v", number, held)
			}
		}
	})
}

// TestFlappingPeer: a peer that is away for less than the grace, again and
// again, changes no allocation.
func TestFlappingPeer(t *testing.T) {
	simulate(t, Options{Peers: 4}, func(c *Cluster) {
		for number := range 20 {
			c.Pin(c.Peers()[number%4], number, replicas(1, 2))
		}
		c.AwaitSettled()
		before := make([]api.Pin, 0, 20)
		pins, err := c.pins(c.Leader())
		c.must(err)
		before = append(before, pins...)
		p := c.Follower()
		for n := range 6 {
			if n%2 == 0 {
				c.Isolate(p, true)
				time.Sleep(20 * time.Second)
				c.Isolate(p, false)
			} else {
				p.Crash(50)
				time.Sleep(20 * time.Second)
				c.Start(p)
			}
			time.Sleep(10 * time.Second)
		}
		c.AwaitSettled()
		after, err := c.pins(c.Leader())
		c.must(err)
		for i := range before {
			if before[i].Revision != after[i].Revision {
				t.Errorf("INV-CALM: pin %s moved from %v to %v", before[i].Cid, before[i].Allocations, after[i].Allocations)
			}
		}
	})
}

// TestFullDisk: a peer that has no space says so, and another takes over.
func TestFullDisk(t *testing.T) {
	simulate(t, three, func(c *Cluster) {
		full := c.Follower()
		full.Disk.SetCapacity(1)
		options := replicas(2, 2)
		options.UserAllocations = []peer.ID{full.ID}
		if result := c.Pin(c.Leader(), 1, options); !result.Pin.AllocatedTo(full.ID) {
			t.Fatalf("the wish was not heard: %v", result.Pin.Allocations)
		}
		c.until("another holder", func() error {
			if got := c.Allocations(1); slices.Contains(got, full.ID) || len(got) != 2 {
				return errors.New("still the full one")
			}
			return nil
		})
		c.AwaitSettled()
	})
}

// TestAllFull: when nobody has space, the error stays to be seen, and space
// that comes back is used.
func TestAllFull(t *testing.T) {
	simulate(t, three, func(c *Cluster) {
		for _, p := range c.Peers() {
			p.Disk.SetCapacity(1)
		}
		c.Pin(c.Leader(), 1, replicas(2, 2))
		var holder *Peer
		c.until("an error", func() error {
			holder = c.ByID(c.Allocations(1)[0])
			if got := c.status(c.Leader(), holder, 1); got.Status != api.StatusPinError || got.ErrorCode != api.CodeNoSpace {
				return errors.New(got.Status.String() + " " + got.Error)
			}
			return nil
		})
		for _, p := range c.Peers() {
			p.Disk.SetCapacity(0)
		}
		c.AwaitSettled()
	})
}

// INV-EXPIRY: the leader's clock jumps two days ahead, and drops nothing that
// has an hour left; when it is right again, what is due goes.
func TestLeaderWithWrongClock(t *testing.T) {
	simulate(t, three, func(c *Cluster) {
		leader := c.Leader()
		options := replicas(2, 2)
		options.ExpireAt = time.Now().Add(time.Hour)
		c.Pin(leader, 1, options)
		time.Sleep(20 * time.Second)
		leader.skew.Store(int64(48 * time.Hour))
		time.Sleep(2 * time.Minute)
		if got := c.Allocations(1); len(got) != 2 {
			t.Errorf("INV-EXPIRY: a pin with an hour left is allocated to %v", got)
		}
		for _, via := range c.Peers() {
			c.must(c.Use(via, requestLimit, func(_ context.Context, via *cluster.Cluster) error {
				for _, want := range []string{api.AlertClock, api.AlertExpiryWaits} {
					if !slices.ContainsFunc(via.Alerts(), func(a api.Alert) bool { return a.Name == want && a.Peer == leader.ID }) {
						t.Errorf("%s is not among the alerts %+v", want, via.Alerts())
					}
				}
				return nil
			}))
		}
		leader.skew.Store(0)
		time.Sleep(50 * time.Minute)
		if got := c.Allocations(1); len(got) != 2 {
			t.Errorf("INV-EXPIRY: a pin with minutes left is allocated to %v", got)
		}
		time.Sleep(10 * time.Minute)
		if got := c.has(leader, 1); !errors.Is(got, api.ErrNotFound) {
			t.Errorf("a pin that is due is there still: %v", got)
		}
	})
}
