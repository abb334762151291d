package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/cluster"
)

// settleLimit is how long a healed cluster may take to have everything right.
const settleLimit = 30 * time.Minute

// Settle heals everything, starts all peers, and waits until the cluster has
// done what it must. It says which invariant does not come true.
func (c *Cluster) Settle() {
	c.t.Helper()
	c.Heal()
	c.Start()
	c.AwaitSettled()
}

// AwaitSettled waits until the peers that run agree and hold what they must.
func (c *Cluster) AwaitSettled() {
	c.t.Helper()
	deadline := time.Now().Add(settleLimit)
	recovered := false
	for {
		problem := c.unsettled()
		if problem == nil {
			return
		}
		left := time.Until(deadline)
		if left < 0 {
			c.t.Errorf("seed %d: not settled after %s: %v", c.options.Seed, settleLimit, problem)
			c.t.Logf("%s\n%s", c.picture(), &c.tail)
			if os.Getenv("SIM_STACKS") != "" {
				stacks := make([]byte, 4<<20)
				c.t.Logf("%s", stacks[:runtime.Stack(stacks, true)])
			}
			return
		}
		if left < settleLimit/2 && !recovered {
			// What failed often waits for hours by now; an operator would not.
			recovered = true
			c.recoverAll()
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func (c *Cluster) recoverAll() {
	for _, p := range c.members() {
		_ = c.Use(p, requestLimit, func(ctx context.Context, via *cluster.Cluster) error {
			for _, err := range via.RecoverAll(ctx, true) {
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// members are the peers that belong to the cluster and run.
func (c *Cluster) members() []*Peer {
	return slices.DeleteFunc(slices.Clone(c.Peers()), func(p *Peer) bool { return p.removed || !p.up() })
}

// violation is an invariant that does not hold now.
type violation struct{ invariant, text string }

func (v violation) Error() string { return v.invariant + ": " + v.text }

func violated(invariant, format string, args ...any) error {
	return violation{invariant, fmt.Sprintf(format, args...)}
}

// unsettled returns what is not as it must become, or nil.
func (c *Cluster) unsettled() error {
	members := c.members()
	if err := c.agree(members); err != nil {
		return err
	}
	pins, err := c.pins(members[0])
	if err != nil {
		return err
	}
	for _, pin := range pins {
		if err := c.replicated(pin, members); err != nil {
			return err
		}
	}
	for _, p := range members {
		if err := p.holds(pins); err != nil {
			return err
		}
	}
	return c.told(members, pins)
}

// agree is INV-HASH: all members have the same state.
func (c *Cluster) agree(members []*Peer) error {
	var first string
	for i, p := range members {
		err := c.Use(p, requestLimit, func(ctx context.Context, via *cluster.Cluster) error { return via.Barrier(ctx) })
		if err != nil {
			return violated("INV-LEADER", "%s gets no answer from a leader: %v", p.Name, err)
		}
		hash, index, err := p.now.Load().daemon.StateHash()
		if err != nil {
			return err
		}
		if state := fmt.Sprintf("%s at %d", hash, index); i == 0 {
			first = state
		} else if state != first {
			return violated("INV-HASH", "%s has state %s, %s has %s", members[0].Name, first, p.Name, state)
		}
	}
	return nil
}

func (c *Cluster) pins(p *Peer) ([]api.Pin, error) {
	var pins []api.Pin
	err := c.Use(p, requestLimit, func(ctx context.Context, via *cluster.Cluster) error {
		for pin, err := range via.Allocations(ctx, api.PinFilter{}) {
			if err != nil {
				return err
			}
			pins = append(pins, pin)
		}
		return nil
	})
	return pins, err
}

// replicated is INV-REPLICAS: a pin has at least its minimum of replicas on
// members that live, and no replica anywhere else.
func (c *Cluster) replicated(pin api.Pin, members []*Peer) error {
	if pin.IsEverywhere() {
		return nil
	}
	live := 0
	for _, id := range pin.Allocations {
		if slices.ContainsFunc(members, func(p *Peer) bool { return p.ID == id }) {
			live++
		}
	}
	if want := min(pin.ReplicationFactorMin, len(members)); live < want {
		return violated("INV-REPLICAS", "pin %s has %d live replicas, it wants %d at least", pin.Cid, live, want)
	}
	if live < len(pin.Allocations) {
		return violated("INV-REPLICAS", "pin %s is allocated to a peer that is dead or no member", pin.Cid)
	}
	return nil
}

// holds is INV-PINNED: a peer's node has pinned what is allocated to it, whole,
// and nothing else.
func (p *Peer) holds(pins []api.Pin) error {
	var want []cid.Cid
	for _, pin := range pins {
		if pin.AllocatedTo(p.ID) {
			want = append(want, pin.Cid.Cid)
		}
	}
	have := p.Disk.Pins()
	for _, c := range want {
		if !slices.Contains(have, c) {
			return violated("INV-PINNED", "%s has not pinned %s", p.Name, c)
		}
		if !p.Disk.Has(c) {
			return violated("INV-BYTES", "%s has pinned %s and not its block, or other bytes", p.Name, c)
		}
	}
	for _, c := range have {
		if !slices.Contains(want, c) {
			return violated("INV-PINNED", "%s has pinned %s, which is not asked of it", p.Name, c)
		}
	}
	return nil
}

// told is INV-STATUS: every peer tells of every pin that its holders have
// pinned it, and that the others do not hold it.
func (c *Cluster) told(members []*Peer, pins []api.Pin) error {
	for _, p := range members {
		for _, pin := range pins {
			var info api.GlobalPinInfo
			err := c.Use(p, requestLimit, func(ctx context.Context, via *cluster.Cluster) (err error) {
				info, err = via.Status(ctx, pin.Cid, false)
				return err
			})
			if err != nil {
				return err
			}
			for _, other := range members {
				want := api.StatusRemote
				if pin.AllocatedTo(other.ID) {
					want = api.StatusPinned
				}
				if got := info.PeerMap[other.ID.String()]; got.Status != want {
					return violated("INV-STATUS", "%s says that %s is %s on %s (%s), it should be %s", p.Name, pin.Cid, got.Status, other.Name, got.Error, want)
				}
			}
		}
	}
	return nil
}

// Check looks at what must hold in the end of every scenario, in a cluster
// that has settled.
func (c *Cluster) Check() {
	c.t.Helper()
	for _, key := range c.history.keys() {
		c.checkKept(key)
	}
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	for _, r := range c.net.rivals {
		c.fail("INV-TERM", "%s and %s both led in term %d", r.first, r.second, r.term)
	}
}

// checkKept is INV-ACK: no acknowledged write is lost. It also lets every peer
// read the key once more, for the history.
func (c *Cluster) checkKept(key int) {
	c.t.Helper()
	possible := c.history.possible(key)
	for i, p := range c.members() {
		o := &operation{kind: opGet, key: key, client: 1000 + i}
		c.history.begin(o)
		seen, err := c.perform(p, o, api.PinOptions{})
		if err != nil {
			c.fail("INV-LEADER", "the healed cluster does not answer: %v", err)
			return
		}
		c.history.end(o, seen)
		if !possible[seen] {
			c.fail("INV-ACK", "pin %d is %q on %s; after what was acknowledged it can only be %v", key, seen, p.Name, possible)
		}
	}
}

// watchApplied is INV-APPLIED: while a process lives, the index that its state
// contains never goes back.
func (c *Cluster) watchApplied() {
	seen := map[*incarnation]uint64{}
	for {
		for _, p := range c.Peers() {
			inc := p.now.Load()
			if inc == nil || !inc.ready() {
				continue
			}
			applied := inc.daemon.Log().Stats().AppliedIndex
			if inc.crashed() {
				continue
			}
			if applied < seen[inc] {
				c.fail("INV-APPLIED", "the state of %s went from index %d back to %d", p.Name, seen[inc], applied)
			}
			seen[inc] = applied
		}
		select {
		case <-c.watch.stop:
			return
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// Pin pins a piece of content through a peer, and wants that to succeed.
func (c *Cluster) Pin(p *Peer, number int, options api.PinOptions) api.PinResult {
	c.t.Helper()
	var result api.PinResult
	options.Origins = c.origins()
	err := c.Use(p, time.Minute, func(ctx context.Context, via *cluster.Cluster) (err error) {
		result, err = via.Pin(ctx, api.PinRequest{Cid: Cid(number), Options: options})
		return err
	})
	if err != nil {
		c.t.Fatalf("seed %d: pin %d through %s: %v", c.options.Seed, number, p.Name, err)
	}
	return result
}

// Allocations returns where a pin is allocated now, or nil.
func (c *Cluster) Allocations(number int) []peer.ID {
	c.t.Helper()
	var pin api.Pin
	c.until("an answer", func() error {
		return c.Use(c.Leader(), requestLimit, func(ctx context.Context, via *cluster.Cluster) (err error) {
			pin, err = via.Allocation(ctx, Cid(number))
			if errors.Is(err, api.ErrNotFound) {
				return nil
			}
			return err
		})
	})
	return pin.Allocations
}

// ByID returns a peer.
func (c *Cluster) ByID(id peer.ID) *Peer {
	c.t.Helper()
	i := slices.IndexFunc(c.Peers(), func(p *Peer) bool { return p.ID == id })
	if i < 0 {
		c.t.Fatalf("no peer %s", id)
	}
	return c.Peers()[i]
}
