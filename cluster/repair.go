package cluster

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"holdfast/api"
)

const (
	repairParallel = 64
	repairRetry    = 15 * time.Second
	repairTell     = 30 * time.Second // in the log, while it lasts
	repairGlance   = 100 * time.Millisecond
	topUpPause     = 15 * time.Second
	topUpRetry     = 2 * time.Minute // some found no place
)

// repair keeps the replicas when peers fail. It belongs to one term of
// leadership. The pins of all lost peers are one queue: those with the fewest
// live replicas come first, and so many in a second. What is lost is looked at
// again all the while: a peer that returns keeps what was not moved yet, and
// another loss is considered at once.
type repair struct {
	c      *Cluster
	pace   *rate.Limiter
	done   map[peer.ID]repaired
	usable int // most peers that could take replicas at a time, in this term
	// again is when to look next for pins with too few replicas: an add whose
	// destination failed leaves one behind.
	again time.Time
}

func newRepair(c *Cluster) *repair {
	return &repair{c: c, pace: rate.NewLimiter(rate.Limit(c.cfg.RepairRate), repairParallel), done: map[peer.ID]repaired{}}
}

// urgency says what shall be moved away from a lost peer by now.
type urgency int

const (
	belowMinimum urgency = iota + 1 // pins that have fewer live replicas than they must
	everyPin
)

// losses are the peers that hold replicas and were away for longer than the
// grace period.
type losses map[peer.ID]loss

type loss struct {
	since   time.Time // zero: the peer left for good
	urgency urgency
}

// live counts the holders of a pin that are not lost.
func (l losses) live(pin api.Pin) int {
	live := 0
	for _, holder := range pin.Allocations {
		if _, lost := l[holder]; !lost {
			live++
		}
	}
	return live
}

// repaired is what was done for a lost peer.
type repaired struct {
	loss
	retry time.Time // when to look again, if some pins found no place
}

// step does what is due. It returns early when ctx ends, or when peers were lost
// or came back meanwhile.
func (r *repair) step(ctx context.Context) {
	lost := r.lost()
	r.c.repairs.see(lost)
	maps.DeleteFunc(r.done, func(id peer.ID, _ repaired) bool {
		_, still := lost[id]
		return !still // it came back, or nothing is left to do for it
	})
	now := time.Now()
	var due []peer.ID
	for id, loss := range lost {
		last := r.done[id]
		if last.since.Equal(loss.since) && last.urgency >= loss.urgency && (last.retry.IsZero() || now.Before(last.retry)) {
			continue
		}
		due = append(due, id)
	}
	slices.Sort(due)
	if len(due) > 0 && !r.move(ctx, due, lost) {
		return
	}
	r.topUp(ctx, lost)
}

// lost returns who is lost now. Nobody is within the grace period (INV-CALM).
func (r *repair) lost() losses {
	members := r.c.memberIDs()
	views := r.c.peers.View()
	lost := losses{}
	for id, pins := range r.c.state.Stats().Peers {
		if pins == 0 {
			continue
		}
		if !slices.Contains(members, id) {
			lost[id] = loss{urgency: everyPin}
			continue
		}
		i := slices.IndexFunc(views, func(v api.PeerView) bool { return v.Report.Peer == id })
		if i < 0 || views[i].State != api.PeerDown {
			continue
		}
		switch down := time.Since(views[i].Since); {
		case down >= r.c.cfg.BelowMaxGrace:
			lost[id] = loss{since: views[i].Since, urgency: everyPin}
		case down >= r.c.cfg.BelowMinGrace:
			lost[id] = loss{since: views[i].Since, urgency: belowMinimum}
		}
	}
	return lost
}

// changed says whether others are lost by now. A peer that has nothing left to
// move does not count.
func (r *repair) changed(lost losses) bool {
	now := r.lost()
	for id, loss := range now {
		if before, known := lost[id]; !known || before.urgency != loss.urgency || !before.since.Equal(loss.since) {
			return true
		}
	}
	pins := r.c.state.Stats().Peers
	for id := range lost {
		if _, still := now[id]; !still && pins[id] > 0 {
			return true
		}
	}
	return false
}

// move places the pins of lost peers elsewhere (INV-REPLICAS), and says whether
// it came to the end.
func (r *repair) move(ctx context.Context, due []peer.ID, lost losses) bool {
	total := outcome{why: "lost peers", repairs: &r.c.repairs}
	for fewest := 0; fewest >= 0; {
		next := -1 // the fewest live replicas of what this pass leaves out
		for _, id := range due {
			selected := func(pin api.Pin) bool {
				live := lost.live(pin)
				if pin.IsEverywhere() || !pin.AllocatedTo(id) || lost[id].urgency < everyPin && live >= pin.ReplicationFactorMin {
					return false
				}
				if live > fewest && (next < 0 || live < next) {
					next = live
				}
				return live == fewest
			}
			if !r.each(ctx, r.c.state.Pins(api.PinFilter{Peer: id}), selected, lost, &total) {
				total.tell(r.c)
				return false
			}
		}
		fewest = next
	}
	total.tell(r.c)
	for _, id := range due {
		done := repaired{loss: lost[id]}
		if total.failed > 0 {
			done.retry = time.Now().Add(repairRetry)
		}
		r.done[id] = done
	}
	return true
}

// topUp gives pins more replicas, up to their maximum, at once when there are
// more peers than ever before in this term (and when all are known, in case the
// last leader fell in the middle of it), and from time to time.
func (r *repair) topUp(ctx context.Context, lost losses) {
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
	if usable < 2 || usable <= r.usable && time.Now().Before(r.again) {
		return
	}
	total := outcome{why: "too few replicas", repairs: &r.c.repairs}
	every := func(api.Pin) bool { return true }
	whole := r.each(ctx, r.c.state.WantingReplicas(usable), every, lost, &total)
	total.tell(r.c)
	if !whole {
		return
	}
	r.usable = max(r.usable, usable)
	pause := topUpPause
	if total.failed > 0 {
		pause = topUpRetry
	}
	r.again = time.Now().Add(pause)
}

// outcome counts what became of pins.
type outcome struct {
	why           string
	repairs       *repairs
	mu            sync.Mutex
	moved, failed int
	told          time.Time
}

func (o *outcome) count(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		o.moved++
		o.repairs.moved.Add(1)
	case !errors.Is(err, errNothingToDo):
		o.failed++
		o.repairs.failed.Add(1)
	}
}

func (o *outcome) tell(c *Cluster) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.moved+o.failed > 0 {
		c.logger.Info("pins re-placed", "why", o.why, "moved", o.moved, "without_place", o.failed)
	}
	o.told = time.Now()
}

// each re-places those of some pins that a condition selects, some at a time.
// It says whether it came to the end: it stops when ctx ends or others are lost
// than at its beginning.
func (r *repair) each(ctx context.Context, pins iter.Seq2[api.Pin, error], selected func(api.Pin) bool, lost losses, total *outcome) (whole bool) {
	var workers sync.WaitGroup
	defer workers.Wait()
	slots := make(chan struct{}, repairParallel)
	glanced := time.Now()
	if total.told.IsZero() {
		total.told = glanced
	}
	for pin, err := range pins {
		if err != nil {
			r.c.logger.Error("pins to repair not read", "err", err)
			total.count(err)
			break
		}
		if ctx.Err() != nil {
			return false
		}
		if now := time.Now(); now.Sub(glanced) >= repairGlance {
			glanced = now
			if r.changed(lost) {
				return false
			}
			if now.Sub(total.told) >= repairTell {
				total.tell(r.c)
			}
		}
		if !selected(pin) {
			continue
		}
		if r.pace.Wait(ctx) != nil {
			return false
		}
		slots <- struct{}{}
		workers.Go(func() {
			defer func() { <-slots }()
			err := r.one(ctx, pin)
			total.count(err)
			if err != nil && !errors.Is(err, errNothingToDo) {
				r.c.logger.Debug("pin not re-placed", "cid", pin.Cid, "err", err)
			}
		})
	}
	return true
}

// one decides about a pin by what is lost at that moment.
func (r *repair) one(ctx context.Context, pin api.Pin) error {
	_, err := r.c.decide(ctx, pin.Cid, func(ctx context.Context) (command, error) {
		current, exists, err := r.c.state.Get(pin.Cid.Cid)
		if err != nil {
			return nil, err
		}
		if !exists {
			return nil, errNothingToDo
		}
		excluded := map[peer.ID]bool{}
		for id := range r.lost() {
			excluded[id] = true
		}
		return r.c.replace(ctx, current, excluded)
	})
	return err
}
