package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"holdfast/api"
	"holdfast/cluster"
	"holdfast/internal/faultfs"
	"holdfast/node/fake"
)

// mischief is something bad that happens to a cluster, for a time.
type mischief struct {
	name string
	do   func(c *Cluster, dice *rand.Rand) (undo func())
}

// mischiefs are what the nemesis chooses from.
var mischiefs = []mischief{
	{"isolate a peer", func(c *Cluster, dice *rand.Rand) func() { return c.isolate(c.any(dice)) }},
	{"isolate the leader", func(c *Cluster, _ *rand.Rand) func() { return c.isolate(c.leaderOrAny()) }},
	{"split", split},
	{"one way", oneWay},
	{"lossy links", func(c *Cluster, dice *rand.Rand) func() { return c.weather(0.05+0.25*dice.Float64(), 0) }},
	{"slow links", func(c *Cluster, dice *rand.Rand) func() {
		return c.weather(0, time.Duration(10+dice.IntN(300))*time.Millisecond)
	}},
	{"crash a peer", func(c *Cluster, dice *rand.Rand) func() { return c.crash(dice, c.any(dice)) }},
	{"crash the leader", func(c *Cluster, dice *rand.Rand) func() { return c.crash(dice, c.leaderOrAny()) }},
	{"crash all", func(c *Cluster, dice *rand.Rand) func() { return c.crash(dice, c.Peers()...) }},
	{"stop a peer", func(c *Cluster, dice *rand.Rand) func() {
		p := c.any(dice)
		p.Stop()
		return func() { c.Begin(p) }
	}},
	{"full disk", func(c *Cluster, dice *rand.Rand) func() {
		p := c.any(dice)
		p.Disk.SetCapacity(1)
		return func() { p.Disk.SetCapacity(0) }
	}},
	{"failing disk", func(c *Cluster, dice *rand.Rand) func() {
		p := c.any(dice)
		if inc := p.now.Load(); inc != nil {
			inc.asked.Store(true) // it may end by itself
			inc.writes.Store(dice.Int64N(200))
		}
		return func() {
			p.Crash(50)
			c.Begin(p)
		}
	}},
	{"unreadable disk", func(c *Cluster, dice *rand.Rand) func() {
		p := c.any(dice)
		if inc := p.now.Load(); inc != nil {
			inc.spoil(readFaults(dice))
		}
		return func() {
			p.Crash(50)
			c.Begin(p)
		}
	}},
	{"unreadable at the start", func(c *Cluster, dice *rand.Rand) func() {
		p := c.any(dice)
		p.Crash(50)
		plan := readFaults(dice)
		p.faulty = &plan
		c.Begin(p)
		return func() {
			p.faulty = nil
			p.Crash(50)
			c.Begin(p)
		}
	}},
	{"damaged blocks", func(c *Cluster, dice *rand.Rand) func() {
		p := c.any(dice)
		for _, pinned := range p.Disk.Pins() {
			switch dice.IntN(4) {
			case 0:
				p.Disk.Damage(pinned)
			case 1:
				p.Disk.Spoil(pinned)
			}
		}
		return p.Disk.Scrub
	}},
	{"slow disk", func(c *Cluster, dice *rand.Rand) func() {
		p := c.any(dice)
		p.slow.Store(int64(time.Duration(20+dice.IntN(1000)) * time.Millisecond))
		return func() { p.slow.Store(0) }
	}},
	{"wrong clock", func(c *Cluster, dice *rand.Rand) func() {
		p := c.any(dice)
		p.skew.Store(int64(time.Duration(dice.IntN(96)-48) * time.Hour))
		return func() { p.skew.Store(0) }
	}},
	{"failing node", func(c *Cluster, dice *rand.Rand) func() {
		p, every := c.any(dice), 2+dice.IntN(5)
		fault := func(op fake.Op) error {
			if op.N%every == 0 {
				return api.Errorf(api.CodeInternal, "operation %d of the node fails", op.N)
			}
			return nil
		}
		p.fault.Store(&fault)
		return func() { p.fault.Store(nil) }
	}},
}

// readFaults are a disk that is hard to read, where log and snapshots lie. The
// databases are left out: Pebble reads a table that it cannot read again and
// again without a pause, in which no time passes in a bubble, and ends the
// process when it meets one while it is being opened. The tests of state and
// consensus go through the faults of their reads one by one.
func readFaults(dice *rand.Rand) faultfs.Plan {
	return faultfs.Plan{Match: func(path string) bool { return strings.Contains(path, "raft") },
		Kind: faultfs.Kinds[dice.IntN(len(faultfs.Kinds))], Count: -1, Chance: []float64{0.002, 0.02, 0.2}[dice.IntN(3)],
		Lasting: dice.IntN(2) == 0, Seed: dice.Uint64()}
}

// Torment does one bad thing after the other, some at the same time.
func (c *Cluster) Torment(steps int) {
	dice := c.dice()
	var undo []func()
	for range steps {
		m := mischiefs[dice.IntN(len(mischiefs))]
		c.logger.Info("nemesis: " + m.name)
		c.deeds = append(c.deeds, fmt.Sprintf("%s: %s", time.Now().Format("15:04:05.000"), m.name))
		undo = append(undo, m.do(c, dice))
		time.Sleep(time.Duration(dice.Int64N(int64(12 * time.Second))))
		if dice.IntN(4) > 0 {
			for _, f := range undo {
				f()
			}
			undo = nil
			time.Sleep(time.Duration(dice.Int64N(int64(6 * time.Second))))
			if dice.IntN(4) == 0 {
				c.turnover(dice)
			}
		}
	}
	for _, f := range undo {
		f()
	}
}

// turnover lets a peer join or removes one, with nothing in the way.
func (c *Cluster) turnover(dice *rand.Rand) {
	c.t.Helper()
	c.Heal()
	c.Start()
	members := c.members()
	if len(members) < 5 && dice.IntN(2) == 0 {
		c.deeds = append(c.deeds, "a peer joins")
		c.Join()
		return
	}
	if len(members) < 4 {
		return
	}
	p := members[dice.IntN(len(members))]
	c.deeds = append(c.deeds, p.Name+" is removed")
	if inc := p.now.Load(); inc != nil {
		inc.asked.Store(true) // it ends by itself when it hears of it
	}
	c.until(p.Name+" to be removed", func() error {
		err := c.Use(c.Leader(), requestLimit, func(ctx context.Context, via *cluster.Cluster) error {
			return via.RemovePeer(ctx, api.RemoveRequest{Peer: p.ID})
		})
		if errors.Is(err, api.ErrNotFound) {
			return nil // an attempt that seemed to fail
		}
		return err
	})
	p.removed = true
	p.Crash(50)
}

func (c *Cluster) any(dice *rand.Rand) *Peer { return c.Peers()[dice.IntN(len(c.Peers()))] }

// leaderOrAny returns a peer that thinks it leads, if there is one.
func (c *Cluster) leaderOrAny() *Peer {
	for _, p := range c.Peers() {
		if p.up() && p.now.Load().daemon.Log().Stats().State == "Leader" {
			return p
		}
	}
	return c.Peers()[0]
}

func (c *Cluster) isolate(p *Peer) func() {
	c.Isolate(p, true)
	return func() { c.Isolate(p, false) }
}

// split cuts the cluster in two.
func split(c *Cluster, dice *rand.Rand) func() {
	side := make([]bool, len(c.Peers()))
	for i := range side {
		side[i] = dice.IntN(2) == 0
	}
	cut := func(closed bool) {
		for i, from := range c.Peers() {
			for j, to := range c.Peers() {
				if side[i] != side[j] {
					c.Cut(from, to, closed)
				}
			}
		}
	}
	cut(true)
	return func() { cut(false) }
}

// oneWay lets a peer hear and not speak, or speak and not hear.
func oneWay(c *Cluster, dice *rand.Rand) func() {
	p, mute := c.any(dice), dice.IntN(2) == 0
	cut := func(closed bool) {
		for _, other := range c.Peers() {
			switch {
			case other == p:
			case mute:
				c.Cut(p, other, closed)
			default:
				c.Cut(other, p, closed)
			}
		}
	}
	cut(true)
	return func() { cut(false) }
}

// weather changes all links.
func (c *Cluster) weather(loss float64, longest time.Duration) func() {
	set := func(loss float64, longest time.Duration) {
		for _, from := range c.Peers() {
			for _, to := range c.Peers() {
				c.net.degrade(from.ID, to.ID, loss, longest)
			}
		}
	}
	set(loss, longest)
	return func() { set(0, 0) }
}

func (c *Cluster) crash(dice *rand.Rand, peers ...*Peer) func() {
	for _, p := range peers {
		p.Crash([]int{0, 50, 100}[dice.IntN(3)])
	}
	return func() {
		for _, p := range peers {
			c.Begin(p)
		}
	}
}
