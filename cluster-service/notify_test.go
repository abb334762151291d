package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/api"
)

// systemd hears when the peer serves, how it is, and a sign of life as long as
// the peer answers; no leader is no reason to kill it.
func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ready := make(chan struct{})
		var hangs, leaderless atomic.Bool
		var mu sync.Mutex
		var sent []string
		n := notifier{ready: ready, watchdog: 2 * time.Minute,
			readiness: func(context.Context) api.Readiness {
				if leaderless.Load() {
					return api.NotReady(api.Condition{Name: api.AlertNoLeader, Message: "two are away"})
				}
				return api.NotReady()
			},
			alive: func(ctx context.Context) error {
				if hangs.Load() {
					<-ctx.Done()
					return errors.New("no answer")
				}
				return nil
			},
			send: func(state string) error {
				mu.Lock()
				defer mu.Unlock()
				sent = append(sent, state)
				return nil
			}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- n.run(ctx) }()
		heard := func(d time.Duration) []string {
			time.Sleep(d)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			out := sent
			sent = nil
			return out
		}
		leaderless.Store(true)
		if got := heard(time.Minute); slices.Contains(got, "READY=1") || slices.Contains(got, "WATCHDOG=1") || !slices.Contains(got, "STATUS=not ready: no_leader: two are away") {
			t.Errorf("while it starts: %q", got)
		}
		close(ready)
		if got := heard(2 * time.Minute); got[0] != "READY=1" || !slices.Contains(got, "WATCHDOG=1") || slices.Contains(got, "STATUS=ready") {
			t.Errorf("without a leader: %q", got)
		}
		leaderless.Store(false)
		if got := heard(time.Minute); !slices.Contains(got, "STATUS=ready") {
			t.Errorf("with a leader: %q", got)
		}
		hangs.Store(true)
		if got := heard(10 * time.Minute); slices.Contains(got[1:], "WATCHDOG=1") {
			t.Errorf("a peer that hangs is called alive: %q", got)
		}
		cancel()
		if err := <-done; err != nil || sent[len(sent)-1] != "STOPPING=1" {
			t.Errorf("at the end: %q, %v", sent, err)
		}
	})
}
