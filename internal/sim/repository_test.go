package sim

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/pintracker"
)

// neverHollow is INV-PINNED at any time: who says that a pin is pinned on a peer
// is right, until done.
func (c *Cluster) neverHollow(p *Peer, numbers int, done func() bool) {
	c.t.Helper()
	c.until("all to be pinned again", func() error {
		for number := range numbers {
			for _, via := range c.Peers() {
				if got := c.status(via, p, number); got.Status == api.StatusPinned && !p.Disk.Has(Cid(number).Cid) {
					c.fail("INV-PINNED", "%s says that %s has pinned %d, and there is nothing", via.Name, p.Name, number)
				}
			}
		}
		if !done() {
			return errors.New("not all")
		}
		return nil
	})
}

// TestRepositoryLost: a peer whose repository was emptied, by whatever way it
// ended before, says so and has everything again in the end.
func TestRepositoryLost(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash=%v", crash), func(t *testing.T) {
			simulate(t, three, func(c *Cluster) {
				const pins = 10
				for number := range pins {
					c.Pin(c.Leader(), number, replicas(api.Everywhere, api.Everywhere))
				}
				c.AwaitSettled()
				p := c.Follower()
				if crash {
					p.Crash(50)
				} else {
					p.Stop()
				}
				p.Disk.Wipe()
				c.Start(p)
				c.neverHollow(p, pins, func() bool { return len(p.Disk.Pins()) == pins })
				c.AwaitSettled()
			})
		})
	}
}

// TestDamagedBlockIsFetched: a damaged block is fetched from another peer by
// itself; while nobody has it, that is to be seen.
func TestDamagedBlockIsFetched(t *testing.T) {
	simulate(t, three, func(c *Cluster) {
		number := originContent // the origin has it, as long as it is needed
		c.Publish(number)
		c.Pin(c.Leader(), number, replicas(api.Everywhere, api.Everywhere))
		c.AwaitSettled()
		for _, p := range c.Peers() {
			p.Disk.Damage(Cid(number).Cid)
			c.neverHollow(p, 0, func() bool { return p.Disk.Has(Cid(number).Cid) })
		}
		c.AwaitSettled()
		for _, p := range c.Peers() {
			c.world.Cut(p.IPFS, c.Origin.ID(), true)
		}
		for _, p := range c.Peers() {
			p.Disk.Damage(Cid(number).Cid)
		}
		p := c.Follower()
		c.until("the damage to be seen", func() error {
			if got := c.status(c.Leader(), p, number); got.Status != api.StatusPinError || !strings.Contains(got.Error, "damaged block") {
				return fmt.Errorf("%s (%s)", got.Status, got.Error)
			}
			return nil
		})
		c.world.Heal()
		c.until("the pin", func() error {
			if got := c.status(c.Leader(), p, number); got.Status != api.StatusPinned || !p.Disk.Has(Cid(number).Cid) {
				return fmt.Errorf("%s (%s)", got.Status, got.Error)
			}
			return nil
		})
		c.AwaitSettled()
	})
}

// TestSilentLoss: a block that went without anybody's noticing is found by the
// slow walk.
func TestSilentLoss(t *testing.T) {
	simulate(t, Options{Peers: 3, TrackerPace: func(c *pintracker.Config) { c.WalkEvery = 10 * time.Minute }}, func(c *Cluster) {
		const pins = 20
		for number := range pins {
			c.Pin(c.Leader(), number, replicas(api.Everywhere, api.Everywhere))
		}
		c.AwaitSettled()
		p := c.Follower()
		p.Disk.Lose(Cid(7).Cid)
		time.Sleep(11 * time.Minute)
		if !p.Disk.Has(Cid(7).Cid) {
			t.Error("INV-PINNED: the block is still missing")
		}
		c.AwaitSettled()
	})
}
