package pintracker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/api"
)

func TestPinAndUnpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a, b, c := nthCid(1), nthCid(2), nthCid(3)
		r.source.pin(a, api.ModeRecursive, "before the start", self)
		r.start()
		defer r.stop()
		r.source.pin(b, api.ModeDirect, "b", self, other)
		r.source.pin(c, api.ModeRecursive, "c", other)
		settle()
		r.want(a, api.StatusPinned)
		r.want(b, api.StatusPinned)
		if info, found, err := r.tracker.Status(c); found || err != nil {
			t.Fatalf("status of another peer's pin: %+v, %v", info, err)
		}
		if r.node.has(a) != api.ModeRecursive || r.node.has(b) != api.ModeDirect || r.node.has(c) != "" {
			t.Fatalf("the node has %v", r.node.pins)
		}
		r.source.unpin(a)
		r.source.pin(b, api.ModeDirect, "b", other) // moved away
		settle()
		if len(r.node.pins) != 0 || len(r.all(api.StatusQuery{})) != 0 {
			t.Fatalf("the node still has %v, the tracker %v", r.node.pins, r.all(api.StatusQuery{}))
		}
	})
}

func TestFailureIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		a := nthCid(1)
		r.node.fetch = func(context.Context, api.Pin, func(uint64, uint64)) error {
			return api.Errorf(api.CodeUnavailable, "nobody has it")
		}
		r.start()
		defer r.stop()
		r.source.pin(a, api.ModeRecursive, "", self)
		settle()
		info := r.want(a, api.StatusPinError)
		if info.AttemptCount != 1 || info.Error != "nobody has it" || info.NextAttempt == nil ||
			time.Until(*info.NextAttempt) < 8*time.Second || time.Until(*info.NextAttempt) > 12*time.Second {
			t.Fatalf("after a failure: %+v", info)
		}
		time.Sleep(10 * time.Hour)
		settle()
		if info := r.want(a, api.StatusPinError); info.AttemptCount < 12 || info.AttemptCount > 20 {
			t.Fatalf("after ten hours: %+v", info)
		}
		r.node.mu.Lock()
		r.node.fetch = nil
		r.node.mu.Unlock()
		time.Sleep(8 * time.Hour)
		settle()
		r.want(a, api.StatusPinned)
	})
}
