package gate

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/api"
)

const (
	patience = 5 * time.Second
	limit    = time.Minute
)

func hold(t *testing.T, g *Gate, what string, linger time.Duration) func() {
	t.Helper()
	release, err := g.Lease(t.Context(), what, linger)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

func tap(t *testing.T, g *Gate) func() {
	t.Helper()
	release, err := g.Touch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return release
}

// exclude starts a collector; the channel gets its release, or is closed.
func exclude(t *testing.T, g *Gate) (<-chan func(), *error) {
	in, failed := make(chan func(), 1), new(error)
	go func() {
		defer close(in)
		release, err := g.Exclude(t.Context(), patience, limit)
		if err != nil {
			*failed = err
			return
		}
		in <- release
	}()
	synctest.Wait()
	return in, failed
}

func TestCollectorWaitsForLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, ctx := New(), t.Context()
		release := hold(t, g, "add", 0)
		in, _ := exclude(t, g)
		tap(t, g)() // a write of the running lease passes
		select {
		case <-in:
			t.Fatal("the collector did not wait")
		default:
		}
		release()
		release()
		out := <-in
		// Everybody waits while it is in.
		for _, enter := range []func(context.Context) (func(), error){g.Touch, func(ctx context.Context) (func(), error) { return g.Lease(ctx, "add", 0) }} {
			short, cancel := context.WithTimeout(ctx, time.Second)
			if _, err := enter(short); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("entered during a collection: %v", err)
			}
			cancel()
		}
		out()
		tap(t, g)()
		hold(t, g, "add", 0)()
	})
}

func TestStuckLeaseHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New()
		hold(t, g, "stuck add", 0)
		begin := time.Now()
		in, failed := exclude(t, g)
		for range 100 { // others begin, and wait for the collector's patience at most
			at := time.Now()
			release := hold(t, g, "add", 0)
			if waited := time.Since(at); waited > patience {
				t.Fatalf("an add waited %s", waited)
			}
			release()
			if err := Sleep(t.Context(), time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if release, ok := <-in; ok {
			release()
			t.Fatal("the collector entered")
		}
		if api.CodeOf(*failed) != api.CodeUnavailable || !strings.Contains((*failed).Error(), "stuck add") {
			t.Errorf("the collector ended with %v", *failed)
		}
		if took := time.Since(begin); took < limit || took > 3*limit {
			t.Errorf("the collector gave up after %s", took)
		}
	})
}

func TestLeaseLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New()
		hold(t, g, "add", 10*time.Second)()
		begin := time.Now()
		in, _ := exclude(t, g)
		hold(t, g, "another add", 0)() // it does not wait meanwhile
		if waited := time.Since(begin); waited != 0 {
			t.Errorf("an add waited %s for a lingering lease", waited)
		}
		(<-in)()
		if waited := time.Since(begin); waited != 10*time.Second {
			t.Errorf("the collector waited %s", waited)
		}
	})
}

func TestLeaseLingersWhileCollectorWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New()
		release := hold(t, g, "add", time.Second)
		begin := time.Now()
		in, _ := exclude(t, g)
		release()
		synctest.Wait()
		tap(t, g)() // and holds nobody up meanwhile
		(<-in)()
		if waited := time.Since(begin); waited != time.Second {
			t.Errorf("the collector waited %s", waited)
		}
	})
}

func TestOneCollectorAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New()
		first, _ := exclude(t, g)
		release := <-first
		second, _ := exclude(t, g)
		select {
		case <-second:
			t.Fatal("two collectors are in")
		default:
		}
		release()
		(<-second)()
	})
}

func TestTouchesDoNotStarveCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New()
		ctx, cancel := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		for range 8 { // at any moment some write is under way
			writers.Go(func() {
				for ctx.Err() == nil {
					if release, err := g.Touch(ctx); err == nil {
						_ = Sleep(ctx, 100*time.Millisecond)
						release()
					}
				}
			})
		}
		begin := time.Now()
		in, _ := exclude(t, g)
		(<-in)()
		if waited := time.Since(begin); waited > time.Second {
			t.Errorf("the collector waited %s", waited)
		}
		cancel()
		writers.Wait()
	})
}
