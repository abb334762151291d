package cluster

import (
	"fmt"
	"slices"
	"time"

	"holdfast/api"
)

// clockTolerance is how far clocks may be apart. Reports take up to two seconds
// and a half on their way, and NTP keeps clocks within far less.
const clockTolerance = 30 * time.Second

// clock compares the machine's clock, which may jump, with the time that has
// passed since this peer started, which cannot.
type clock struct {
	wall  func() time.Time
	began time.Time // by the machine's clock
	start time.Time // monotonic
}

func newClock(wall func() time.Time) clock {
	return clock{wall: wall, began: wall().Round(0), start: time.Now()}
}

// jump is by how much the machine's clock was set forward, or back, since this
// peer started.
func (c clock) jump() time.Duration {
	return c.wall().Round(0).Sub(c.began.Add(time.Since(c.start)))
}

// skews are by how much the clocks of the other peers that report are ahead of
// the leader's, and by how much this peer's is.
func (c *Cluster) skews() (own time.Duration, others []time.Duration) {
	for _, view := range c.peers.View() {
		switch {
		case view.Report.Wall.IsZero(), view.State == api.PeerDown, view.State == api.PeerUnknown:
		case view.Report.Peer == c.cfg.Self:
			own = view.Skew
		default:
			others = append(others, view.Skew)
		}
	}
	return own, others
}

// median is the middle of some numbers, or that between the two in the middle.
func median(of []time.Duration) time.Duration {
	of = slices.Sorted(slices.Values(of))
	n := len(of)
	return (of[(n-1)/2] + of[n/2]) / 2
}

// timeToExpire is the time by which the leader drops what has expired. A peer
// that is alone goes by the time since it started, if its clock jumped. Any
// other goes by its clock if that of a majority of those who report agree with
// it; else it waits, and says why (INV-EXPIRY).
func (c *Cluster) timeToExpire() (now time.Time, wait string) {
	_, others := c.skews()
	now = c.wall()
	if len(others) == 0 {
		if jump := c.clock.jump(); jump > clockTolerance {
			now = now.Add(-jump)
		}
		return now, ""
	}
	agree := 1
	for _, skew := range others {
		if skew.Abs() <= clockTolerance {
			agree++
		}
	}
	if 2*agree > 1+len(others) {
		return now, ""
	}
	return now, fmt.Sprintf("no pin expires, for this peer leads and its clock (%s) agrees with that of %d of %d peers only: most others are ahead by %s. Set the clocks by NTP",
		now.UTC().Format(time.RFC3339), agree, 1+len(others), median(others).Round(time.Second))
}

// noteExpiry keeps why nothing expires; "": it does.
func (c *Cluster) noteExpiry(wait string) {
	was := c.expiryWaits.Load()
	if wait == "" {
		c.expiryWaits.Store(nil)
		return
	}
	c.expiryWaits.Store(&wait)
	if was == nil {
		c.logger.Warn("expiry waits", "why", wait)
	}
}

// agreedTime is this peer's clock, set right by the other peers' if most of
// them are of another mind.
func (c *Cluster) agreedTime() time.Time {
	now := c.wall()
	own, others := c.skews()
	if off := median(append(others, own)) - own; off.Abs() > clockTolerance {
		return now.Add(off)
	}
	return now
}

// clockConditions tell of a clock that cannot be right.
func (c *Cluster) clockConditions() []api.Condition {
	var found []api.Condition
	if wait := c.expiryWaits.Load(); wait != nil {
		found = append(found, api.Condition{Name: api.AlertExpiryWaits, Message: *wait})
	}
	own, others := c.skews()
	switch off, jump := own-median(append(others, own)), c.clock.jump(); {
	case off.Abs() > clockTolerance:
		found = append(found, api.Condition{Name: api.AlertClock, Message: fmt.Sprintf(
			"this peer's clock is %s the middle of the %d peers' clocks; set it by NTP", apart(off), 1+len(others))})
	case len(others) == 0 && jump.Abs() > clockTolerance && c.log.IsLeader():
		found = append(found, api.Condition{Name: api.AlertClock, Message: fmt.Sprintf(
			"this peer's clock is %s what it should be by the time since the peer started, and no other peer tells which is right. If the clock is right now, or the machine slept, restart the peer; else set it by NTP", apart(jump))})
	}
	return found
}

func apart(by time.Duration) string {
	if by < 0 {
		return (-by).Round(time.Second).String() + " behind"
	}
	return by.Round(time.Second).String() + " ahead of"
}
