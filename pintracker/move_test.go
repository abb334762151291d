package pintracker

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/api"
)

// A copy that moved away is kept until enough of the new holders have theirs;
// one that was removed from the pinset is not asked about.
func TestMovedPinIsKeptUntilOthersHaveIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var may atomic.Bool
		r := newRig(t)
		r.released = func(context.Context, api.Pin) bool { return may.Load() }
		moved, removed := nthCid(1), nthCid(2)
		r.source.pin(moved, api.ModeRecursive, "", self)
		r.source.pin(removed, api.ModeRecursive, "", self)
		r.start()
		settle()
		r.source.pin(moved, api.ModeRecursive, "", other)
		r.source.unpin(removed)
		time.Sleep(time.Minute)
		info := r.want(moved, api.StatusUnpinQueued)
		if r.node.has(moved) == "" || info.Error == "" {
			t.Fatalf("the node dropped it, or nothing says why it is kept: %+v", info)
		}
		if r.node.has(removed) != "" {
			t.Fatal("a removed pin is kept")
		}
		r.stop()
		r.start() // the question is asked again after a restart
		defer r.stop()
		time.Sleep(time.Minute)
		r.want(moved, api.StatusUnpinQueued)
		may.Store(true)
		time.Sleep(2 * handOver)
		if r.node.has(moved) != "" {
			t.Fatal("still there")
		}
	})
}
