package cluster

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/state"
)

// How often the leader looks after things, and how much it does at once.
const (
	balanceInterval  = 500 * time.Millisecond
	repairInterval   = time.Second
	expiryInterval   = 5 * time.Second
	announceInterval = 10 * time.Second
	expiryBatch      = 1000
	repairParallel   = 64
	repairRetry      = 15 * time.Second
	topUpPause       = 15 * time.Second
	topUpRetry       = 2 * time.Minute // some found no place
)

// Run does what every member does in the background, until ctx ends.
func (c *Cluster) Run(ctx context.Context) error {
	every(ctx, announceInterval, func() {
		if err := c.announceSelf(ctx); err != nil {
			c.logger.Debug("own addresses not announced yet", "err", err)
		}
	})
	return nil
}

// Lead does what only the leader may do, until ctx ends with its leadership.
func (c *Cluster) Lead(ctx context.Context) {
	c.logger.Info("this peer leads the cluster")
	if err := c.found(ctx); err != nil {
		c.logger.Error("new cluster not recorded", "err", err)
	}
	led := time.Now()
	c.progress.begin()
	var loops sync.WaitGroup
	loops.Go(func() { every(ctx, balanceInterval, func() { c.balance(ctx, led) }) })
	loops.Go(func() { every(ctx, announceInterval, func() { c.raiseVersion(ctx) }) })
	loops.Go(func() { every(ctx, expiryInterval, func() { c.expire(ctx) }) })
	loops.Go(func() {
		r := repair{c: c, done: map[peer.ID]repaired{}}
		every(ctx, repairInterval, func() { r.step(ctx) })
	})
	loops.Wait()
}

// every calls a function now and then again each interval, until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	for {
		do()
		if !sleep(ctx, interval) {
			return
		}
	}
}

// found records a new cluster's identity and first member, once.
func (c *Cluster) found(ctx context.Context) error {
	if c.state.ClusterID() != "" || c.cfg.ClusterID == "" {
		return nil
	}
	_, err := c.propose(ctx, state.InitClusterCommand{ClusterID: c.cfg.ClusterID,
		Member: api.Member{ID: c.cfg.Self, Name: c.cfg.Name, Addresses: c.fullAddresses(), CommandVersion: c.state.Known(), JoinedAt: c.wall().UTC()}})
	if errors.Is(err, api.ErrConflict) {
		return nil
	}
	return err
}

// expire unpins what has outlived its time.
func (c *Cluster) expire(ctx context.Context) {
	pins, err := c.state.Expired(c.wall(), expiryBatch)
	if err != nil {
		c.logger.Error("expired pins not read", "err", err)
		return
	}
	for _, pin := range pins {
		cmd := state.UnpinCommand{Cid: pin.Cid.Cid, Expect: pin.Revision, RequestID: NewRequestID(), At: c.wall()}
		_, err := c.propose(ctx, cmd)
		switch {
		case err == nil:
			c.logger.Info("pin expired", "cid", pin.Cid, "expire_at", pin.ExpireAt)
		case errors.Is(err, api.ErrConflict), errors.Is(err, api.ErrNotFound): // changed meanwhile
		default:
			c.logger.Warn("expired pin not removed yet", "cid", pin.Cid, "err", err)
			return
		}
	}
}

// repair keeps the replicas when peers fail. It belongs to one term of
// leadership.
type repair struct {
	c      *Cluster
	done   map[peer.ID]repaired
	usable int // most peers that could take replicas at a time, in this term
	// again is when to look next for pins with too few replicas: an add whose
	// destination failed leaves one behind.
	again time.Time
}

// repaired is what was done for a lost peer.
type repaired struct {
	since time.Time // when the peer was lost; a later loss starts anew
	level int       // 1: pins below their minimum, 2: all
	retry time.Time // when to look again, if some pins found no place
}

// step looks at every peer that pins are allocated to.
func (r *repair) step(ctx context.Context) {
	lost := r.lost()
	now := time.Now()
	excluded := map[peer.ID]bool{}
	for id, since := range lost {
		if r.level(since, now) > 0 {
			excluded[id] = true
		}
	}
	for id := range r.done {
		if !excluded[id] {
			delete(r.done, id) // it came back, or nothing is left to do for it
		}
	}
	for id := range excluded {
		since := lost[id]
		level := r.level(since, now)
		last := r.done[id]
		if last.since.Equal(since) && last.level >= level && (last.retry.IsZero() || now.Before(last.retry)) {
			continue
		}
		done := repaired{since: since, level: level}
		if r.move(ctx, id, level, excluded) > 0 {
			done.retry = time.Now().Add(repairRetry)
		}
		r.done[id] = done
	}
	r.topUp(ctx)
}

// lost returns the peers that hold replicas and are down or no members any
// more, with the time of their loss (zero: they left for good).
func (r *repair) lost() map[peer.ID]time.Time {
	members := r.c.memberIDs()
	lost := map[peer.ID]time.Time{}
	for id, pins := range r.c.state.Stats().Peers {
		if pins == 0 {
			continue
		}
		if !slices.Contains(members, id) {
			lost[id] = time.Time{}
		} else if view, ok := r.c.view(id); ok && view.State == api.PeerDown {
			lost[id] = view.Since
		}
	}
	return lost
}

// level says how much shall be done for a lost peer by now: nothing within the
// grace period (INV-CALM).
func (r *repair) level(since, now time.Time) int {
	switch down := now.Sub(since); {
	case since.IsZero() || down >= r.c.cfg.BelowMaxGrace:
		return 2
	case down >= r.c.cfg.BelowMinGrace:
		return 1
	}
	return 0
}

// move places the pins of a lost peer elsewhere (INV-REPLICAS): at level 1
// those that have fewer live replicas than their minimum. It returns how many found no place.
func (r *repair) move(ctx context.Context, id peer.ID, level int, excluded map[peer.ID]bool) int {
	return r.each(ctx, r.c.state.Pins(api.PinFilter{Peer: id}), func(pin api.Pin) bool {
		if pin.IsEverywhere() || !pin.AllocatedTo(id) {
			return false
		}
		live := 0
		for _, holder := range pin.Allocations {
			if !excluded[holder] {
				live++
			}
		}
		return level == 2 || live < pin.ReplicationFactorMin
	}, excluded, "lost peer "+r.c.nameOf(id))
}

// topUp gives pins more replicas, up to their maximum, at once when there are
// more peers than ever before in this term (and when all are known, in case the
// last leader fell in the middle of it), and from time to time.
func (r *repair) topUp(ctx context.Context) {
	candidates, undecided := r.c.look(nil)
	if r.usable == 0 && undecided {
		return
	}
	usable := 0
	for _, candidate := range candidates {
		if candidate.Usable {
			usable++
		}
	}
	now := time.Now()
	if usable < 2 || usable <= r.usable && now.Before(r.again) {
		return
	}
	r.usable = max(r.usable, usable)
	every := func(api.Pin) bool { return true }
	pause := topUpPause
	if r.each(ctx, r.c.state.WantingReplicas(usable), every, nil, "too few replicas") > 0 {
		pause = topUpRetry
	}
	r.again = now.Add(pause)
}

// each re-places those of some pins that a condition selects, some at a time,
// and returns how many found no place.
func (r *repair) each(ctx context.Context, pins iter.Seq2[api.Pin, error], selected func(api.Pin) bool, excluded map[peer.ID]bool, why string) int {
	var mu sync.Mutex
	moved, failed := 0, 0
	var workers sync.WaitGroup
	slots := make(chan struct{}, repairParallel)
	for pin, err := range pins {
		if err != nil {
			r.c.logger.Error("pins to repair not read", "err", err)
			failed++
			break
		}
		if ctx.Err() != nil {
			break
		}
		if !selected(pin) {
			continue
		}
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			err := r.one(ctx, pin, excluded)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				moved++
			case errors.Is(err, errNothingToDo):
			default:
				failed++
				r.c.logger.Debug("pin not re-placed", "cid", pin.Cid, "err", err)
			}
		})
	}
	workers.Wait()
	if moved+failed > 0 {
		r.c.logger.Info("pins re-placed", "why", why, "moved", moved, "without_place", failed)
	}
	return failed
}

func (r *repair) one(ctx context.Context, pin api.Pin, excluded map[peer.ID]bool) error {
	_, err := r.c.decide(ctx, "repair", func(ctx context.Context) (command, error) {
		current, exists, err := r.c.state.Get(pin.Cid.Cid)
		if err != nil {
			return nil, err
		}
		if !exists {
			return nil, errNothingToDo
		}
		return r.c.replace(ctx, current, excluded)
	})
	return err
}
