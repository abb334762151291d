package gate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/api"
)

// Gate keeps writers and garbage collection apart. Unlike Kubo's lock, which it
// stands before, waiting for it ends with a context, and a collector that
// waits too long steps back rather than holding everybody up: a stuck add
// delays others by the collector's patience at most.
//
// There are leases (an add: long, many writes) and touches (one write, short).
// A touch passes a waiting collector while a lease is held, since it may
// belong to that lease.
type Gate struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change that a waiter may wait for
	leases  map[uint64]lease
	next    uint64
	working int // leases that have not ended
	touches int
	waiting bool // a collector wants in
	held    bool // a collector is in
}

type lease struct {
	what    string
	since   time.Time
	lingers time.Time // ended, but counts until then; zero: not ended
}

// New makes an open gate.
func New() *Gate {
	return &Gate{changed: make(chan struct{}), leases: map[uint64]lease{}}
}

func (g *Gate) signal() {
	close(g.changed)
	g.changed = make(chan struct{})
}

// wait blocks until ok, which is asked with the lock held, and returns with
// the lock held; or the context's error, without the lock.
func (g *Gate) wait(ctx context.Context, ok func() bool) error {
	g.mu.Lock()
	for !ok() {
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		g.mu.Lock()
	}
	return nil
}

// Lease begins a long piece of work. Its release may be called more than once;
// the lease counts for linger longer.
func (g *Gate) Lease(ctx context.Context, what string, linger time.Duration) (release func(), err error) {
	if err := g.wait(ctx, func() bool { return !g.held && !g.waiting }); err != nil {
		return nil, fmt.Errorf("wait for garbage collection: %w", err)
	}
	defer g.mu.Unlock()
	id := g.next
	g.next++
	g.leases[id] = lease{what: what, since: time.Now()}
	g.working++
	return sync.OnceFunc(func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.working--
		if linger > 0 {
			l := g.leases[id]
			l.lingers = time.Now().Add(linger)
			g.leases[id] = l
		} else {
			delete(g.leases, id)
		}
		g.signal()
	}), nil
}

// Touch begins one short write.
func (g *Gate) Touch(ctx context.Context) (release func(), err error) {
	if err := g.wait(ctx, func() bool { return !g.held && (!g.waiting || g.working > 0) }); err != nil {
		return nil, fmt.Errorf("wait for garbage collection: %w", err)
	}
	defer g.mu.Unlock()
	g.touches++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.touches--
		if g.touches == 0 {
			g.signal()
		}
	}, nil
}

// expire drops leases that have lingered long enough, and tells when the next
// one will have (zero: none lingers).
func (g *Gate) expire(now time.Time) (next time.Time) {
	for id, l := range g.leases {
		switch {
		case l.lingers.IsZero(): // at work
		case !now.Before(l.lingers):
			delete(g.leases, id)
		case next.IsZero() || l.lingers.Before(next):
			next = l.lingers
		}
	}
	return next
}

// Exclude waits for quiet, then keeps everybody out until release. It waits
// patience at a time, stepping back between; after limit it gives up with
// unavailable, naming what has been at work for longest.
func (g *Gate) Exclude(ctx context.Context, patience, limit time.Duration) (release func(), err error) {
	deadline := time.Now().Add(limit)
	for {
		if err := g.settle(ctx, deadline); err != nil {
			return nil, err
		}
		try, cancel := context.WithTimeout(ctx, patience)
		entered, lingering := g.tryExclude(try)
		cancel()
		if entered {
			return g.reopen, nil
		}
		if lingering {
			continue
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if time.Now().After(deadline) {
			return nil, g.busyError()
		}
		if err := Sleep(ctx, patience); err != nil {
			return nil, err
		}
	}
}

// settle waits for lingering leases without keeping anybody out.
func (g *Gate) settle(ctx context.Context, deadline time.Time) error {
	for {
		g.mu.Lock()
		next := g.expire(time.Now())
		g.mu.Unlock()
		if next.IsZero() {
			return nil
		}
		if next.After(deadline) {
			return g.busyError()
		}
		if err := Sleep(ctx, time.Until(next)); err != nil {
			return err
		}
	}
}

// tryExclude enters once nobody is at work, unless leases linger then, which is
// waited for elsewhere.
func (g *Gate) tryExclude(ctx context.Context) (entered, lingering bool) {
	// One collector at a time; the next one waits here.
	if g.wait(ctx, func() bool { return !g.held && !g.waiting }) != nil {
		return false, false
	}
	g.waiting = true
	g.mu.Unlock()
	err := g.wait(ctx, func() bool { return g.working == 0 && g.touches == 0 })
	if err != nil {
		g.mu.Lock()
	}
	defer g.mu.Unlock()
	g.expire(time.Now())
	lingering = err == nil && len(g.leases) > 0
	g.waiting, g.held = false, err == nil && !lingering
	if !g.held {
		g.signal()
	}
	return g.held, lingering
}

func (g *Gate) reopen() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = false
	g.signal()
}

func (g *Gate) busyError() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var oldest lease
	for _, l := range g.leases {
		if oldest.what == "" || l.since.Before(oldest.since) {
			oldest = l
		}
	}
	if oldest.what == "" {
		return api.Errorf(api.CodeUnavailable, "garbage collection found no quiet moment; try again later")
	}
	return api.Errorf(api.CodeUnavailable, "garbage collection waits for %q, at work since %s; try again later",
		oldest.what, oldest.since.Format(time.RFC3339))
}

// Sleep waits for d, or returns the error of a context that ended before.
func Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
