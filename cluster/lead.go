package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

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
)

// Run does what every member does in the background, until ctx ends.
func (c *Cluster) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { c.watchLeader(ctx) })
	loops.Go(func() {
		every(ctx, announceInterval, func() {
			if err := c.announceSelf(ctx); err != nil {
				c.logger.Debug("own addresses not announced yet", "err", err)
			}
		})
	})
	loops.Wait()
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
	loops.Go(func() {
		defer c.noteExpiry("")
		if sleep(ctx, confirmLimit) { // everyone has reported what time it is
			every(ctx, expiryInterval, func() { c.expire(ctx) })
		}
	})
	loops.Go(func() {
		defer c.repairs.see(nil)
		r := newRepair(c)
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
		Member: api.Member{ID: c.cfg.Self, Name: c.cfg.Name, Addresses: c.announced(), CommandVersion: c.state.Known(), JoinedAt: c.wall().UTC()}})
	if errors.Is(err, api.ErrConflict) {
		return nil
	}
	return err
}

// expire unpins what has outlived its time.
func (c *Cluster) expire(ctx context.Context) {
	now, wait := c.timeToExpire()
	if c.noteExpiry(wait); wait != "" {
		return
	}
	pins, err := c.state.Expired(now, expiryBatch)
	if err != nil {
		c.logger.Error("expired pins not read", "err", err)
		return
	}
	for _, pin := range pins {
		cmd := state.UnpinCommand{Cid: pin.Cid.Cid, Expect: pin.Revision, RequestID: NewRequestID(), At: now}
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
