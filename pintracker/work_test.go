package pintracker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// bubble runs a test with a rig in fake time.
func bubble(t *testing.T, f func(t *testing.T, r *rig)) {
	synctest.Test(t, func(t *testing.T) { f(t, newRig(t)) })
}

// silent is a fetch that no block ever reaches.
func silent(ctx context.Context, _ api.Pin, _ func(blocks, bytes uint64)) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestDeadContentHoldsUpNothing(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cfg.Workers = 2
		live := nthCid(1000)
		r.node.fetch = func(ctx context.Context, pin api.Pin, progress func(blocks, bytes uint64)) error {
			if pin.Cid.Cid == live {
				return nil
			}
			return silent(ctx, pin, progress)
		}
		for i := range 200 {
			r.source.pin(nthCid(i), api.ModeRecursive, "dead", self)
		}
		r.start()
		defer r.stop()
		for range 20 { // at any time, for the dead are tried again and again
			time.Sleep(7 * time.Minute)
			r.source.pin(live, api.ModeRecursive, "live", self)
			time.Sleep(5 * time.Second)
			r.want(live, api.StatusPinned)
			r.source.unpin(live)
		}
		for range 60 { // unless it is just being tried again
			if r.status(nthCid(7)).Status == api.StatusPinError {
				break
			}
			time.Sleep(7 * time.Second)
		}
		info := r.want(nthCid(7), api.StatusPinError)
		if info.ErrorCode != api.CodeUnavailable || !strings.Contains(info.Error, "no block came") || info.NextAttempt == nil {
			t.Fatalf("a dead pin says %+v", info)
		}
	})
}

func TestSlowFetchIsNotStalled(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cfg.Workers = 1
		r.node.fetch = func(ctx context.Context, pin api.Pin, progress func(blocks, bytes uint64)) error {
			for i := range uint64(100) {
				if err := pause(ctx, time.Minute); err != nil {
					return err
				}
				progress(i+1, 1000*(i+1))
			}
			return nil
		}
		r.source.pin(nthCid(1), api.ModeRecursive, "", self)
		r.start()
		defer r.stop()
		time.Sleep(30*time.Minute + time.Second)
		info := r.want(nthCid(1), api.StatusPinning)
		if info.Blocks != 30 || info.Bytes != 30000 || info.LastBlockAt == nil || time.Since(*info.LastBlockAt) != time.Second {
			t.Fatalf("half way: %+v", info)
		}
		time.Sleep(2 * time.Hour)
		if info := r.want(nthCid(1), api.StatusPinned); info.Blocks != 100 || info.AttemptCount != 1 {
			t.Fatalf("in the end: %+v", info)
		}
	})
}

func TestUnpinCallsOffFetch(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		a := nthCid(1)
		r.node.fetch = silent
		r.start()
		defer r.stop()
		r.source.pin(a, api.ModeRecursive, "", self)
		settle()
		r.want(a, api.StatusPinning)
		r.source.unpin(a)
		settle()
		if _, found, err := r.tracker.Status(a); found || err != nil {
			t.Fatalf("an unpinned fetch is still there: %v", err)
		}
	})
}

func TestRepinDuringUnpin(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		a := nthCid(1)
		r.source.pin(a, api.ModeRecursive, "", self)
		r.start()
		defer r.stop()
		settle()
		r.node.mu.Lock()
		r.node.pinTakes = time.Second
		r.node.mu.Unlock()
		r.source.unpin(a)
		settle()
		r.want(a, api.StatusUnpinning)
		r.source.pin(a, api.ModeDirect, "", self)
		time.Sleep(5 * time.Second)
		r.want(a, api.StatusPinned)
		if r.node.has(a) != api.ModeDirect {
			t.Fatalf("the node has %q", r.node.has(a))
		}
	})
}

func TestWhatIsFetchedAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(r *rig, c cid.Cid)
		again  bool
	}{
		{"name", func(r *rig, c cid.Cid) { r.source.pin(c, api.ModeRecursive, "new", self) }, false},
		{"other replicas", func(r *rig, c cid.Cid) { r.source.pin(c, api.ModeRecursive, "old", self, other) }, false},
		{"mode", func(r *rig, c cid.Cid) { r.source.pin(c, api.ModeDirect, "old", self) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, r *rig) {
				a := nthCid(1)
				r.start()
				defer r.stop()
				r.source.pin(a, api.ModeRecursive, "old", self)
				settle()
				since := r.want(a, api.StatusPinned).Timestamp
				c.change(r, a)
				settle()
				if info := r.want(a, api.StatusPinned); (info.Timestamp != since) != c.again || (r.node.fetches(a) > 1) != c.again {
					t.Fatalf("fetched %d times, %+v", r.node.fetches(a), info)
				}
				pin, _, _ := r.source.Get(a)
				if info := r.all(api.StatusQuery{})[0]; info.Name != pin.Name || r.node.has(a) != pin.Mode {
					t.Fatalf("status %+v, the node has %q, want %+v", info, r.node.has(a), pin)
				}
			})
		})
	}
}

func TestOneBadPinDoesNotFailItsBatch(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		bad := nthCid(13)
		boom := func(c cid.Cid) error {
			if c == bad {
				return api.Errorf(api.CodeInternal, "boom")
			}
			return nil
		}
		r.node.pinErr = func(pin api.Pin) error { return boom(pin.Cid.Cid) }
		r.node.unpinErr = boom
		for i := range 20 {
			r.source.pin(nthCid(i), api.ModeRecursive, "", self)
		}
		r.start()
		defer r.stop()
		settle()
		if counts := r.tracker.Counts(); counts[api.StatusPinned] != 19 || counts[api.StatusPinError] != 1 {
			t.Fatalf("counts are %v", counts)
		}
		for i := range 20 {
			r.source.unpin(nthCid(i))
		}
		settle()
		if counts := r.tracker.Counts(); len(counts) != 1 || counts[api.StatusUnpinError] != 1 {
			t.Fatalf("counts are %v", counts)
		}
		if info := r.want(bad, api.StatusUnpinError); info.Error != "boom" || info.NextAttempt == nil {
			t.Fatalf("a failed unpin says %+v", info)
		}
		if got := r.all(api.StatusQuery{Filter: api.StatusError}); len(got) != 1 || got[0].Cid.Cid != bad {
			t.Fatalf("errors are %+v", got)
		}
		r.node.mu.Lock()
		r.node.unpinErr = nil
		r.node.mu.Unlock()
		if found, err := r.tracker.Recover(bad); !found || err != nil {
			t.Fatalf("recover: %v %v", found, err)
		}
		settle()
		if len(r.all(api.StatusQuery{})) != 0 {
			t.Fatal("a recovered unpin is still there")
		}
	})
}

func TestFullDiskPauses(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cfg.Workers = 1
		r.node.fetch = func(context.Context, api.Pin, func(uint64, uint64)) error {
			return api.Errorf(api.CodeNoSpace, "the disk is full")
		}
		for i := range 1000 {
			r.source.pin(nthCid(i), api.ModeRecursive, "", self)
		}
		r.start()
		defer r.stop()
		time.Sleep(10 * time.Minute)
		if counts := r.tracker.Counts(); counts[api.StatusPinError] > 21 {
			t.Fatalf("%d pins were failed by a full disk in ten minutes", counts[api.StatusPinError])
		}
		r.source.unpin(nthCid(1)) // what makes space is not held up
		settle()
		if _, found, _ := r.tracker.Status(nthCid(1)); found {
			t.Fatal("an unpin waits for space")
		}
		r.node.mu.Lock()
		r.node.fetch = nil
		r.node.mu.Unlock()
		time.Sleep(10 * time.Minute)
		if counts := r.tracker.Counts(); counts[api.StatusPinned] != 999 {
			t.Fatalf("when there is space again: %v", counts)
		}
	})
}

// Failed pins may take part of the workers only, and old ones do not starve.
func TestFreshBeforeRetries(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cfg.Workers = 8
		var mu sync.Mutex
		var order []string
		failing := true
		r.node.fetch = func(ctx context.Context, pin api.Pin, _ func(uint64, uint64)) error {
			mu.Lock()
			order = append(order, pin.Name)
			failing := failing
			mu.Unlock()
			if failing {
				return api.Errorf(api.CodeUnavailable, "not yet")
			}
			return pause(ctx, time.Second)
		}
		for i := range 100 {
			r.source.pin(nthCid(i), api.ModeRecursive, "retry", self)
		}
		r.start()
		defer r.stop()
		time.Sleep(time.Second)
		mu.Lock()
		failing, order = false, nil
		mu.Unlock()
		time.Sleep(20 * time.Second) // the retries are due by now, and under way
		r.source.age = 48 * time.Hour
		for i := range 100 {
			r.source.pin(nthCid(1000+i), api.ModeRecursive, "backlog", self)
		}
		r.source.age = 0
		for i := range 100 {
			r.source.pin(nthCid(2000+i), api.ModeRecursive, "fresh", self)
		}
		mu.Lock()
		order = nil
		mu.Unlock()
		time.Sleep(10 * time.Second)
		mu.Lock()
		counts := map[string]int{}
		for _, name := range order {
			counts[name]++
		}
		mu.Unlock()
		if counts["fresh"] < 40 || counts["backlog"] < 5 || counts["retry"] > 20 {
			t.Fatalf("started in ten seconds: %v", counts)
		}
		time.Sleep(time.Minute)
		if counts := r.tracker.Counts(); counts[api.StatusPinned] != 300 {
			t.Fatalf("in the end: %v", counts)
		}
	})
}

func TestSourceBehindIsWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		a, b := nthCid(1), nthCid(2)
		r.start()
		r.source.pin(a, api.ModeRecursive, "", self)
		r.source.pin(b, api.ModeRecursive, "", self)
		settle()
		r.stop()
		whole := r.source
		r.source = newSource(10) // it lost all, and will replay it
		r.start()
		defer r.stop()
		time.Sleep(time.Hour)
		r.source.pin(a, api.ModeRecursive, "", self)
		settle()
		if r.node.has(a) == "" || r.node.has(b) == "" {
			t.Fatal("pins were dropped because the source had not replayed them yet")
		}
		r.source.set(whole.pins[b.KeyString()])
		settle()
		r.want(a, api.StatusPinned)
		r.want(b, api.StatusPinned)
		if r.node.fetches(a) != 1 || r.node.fetches(b) != 1 {
			t.Fatalf("fetched %v", r.node.fetched)
		}
	})
}

func TestRestartKeepsFailures(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		a, b := nthCid(1), nthCid(2)
		r.node.fetch = func(ctx context.Context, pin api.Pin, progress func(uint64, uint64)) error {
			progress(3, 300)
			if pin.Cid.Cid == b {
				return silent(ctx, pin, progress)
			}
			return api.Errorf(api.CodeUnavailable, "nobody has it")
		}
		r.start()
		r.source.pin(a, api.ModeRecursive, "", self)
		time.Sleep(time.Minute)
		r.source.pin(b, api.ModeRecursive, "", self)
		settle()
		before := r.want(a, api.StatusPinError)
		r.want(b, api.StatusPinning)
		r.stop()
		if _, _, err := r.tracker.Status(a); api.CodeOf(err) != api.CodeUnavailable {
			t.Fatalf("status after Close: %v", err)
		}
		r.start()
		defer r.stop()
		settle()
		after := r.want(a, api.StatusPinError)
		if after.AttemptCount != before.AttemptCount || !after.NextAttempt.Equal(*before.NextAttempt) ||
			after.Error != before.Error || after.Blocks != 3 || before.AttemptCount < 2 {
			t.Fatalf("before %+v, after %+v", before, after)
		}
		if info := r.want(b, api.StatusPinning); info.AttemptCount != 0 {
			t.Fatalf("a restart counts as a failure: %+v", info)
		}
	})
}

// A clock that jumped ahead by years while a pin failed, and was set right
// again, holds nothing up: neither in the process that saw it nor after a
// restart.
func TestWrongClock(t *testing.T) {
	for _, restart := range []bool{false, true} {
		bubble(t, func(t *testing.T, r *rig) {
			var wrong atomic.Int64
			r.wall = func() time.Time { return time.Now().Add(time.Duration(wrong.Load())) }
			a := nthCid(1)
			var good atomic.Bool
			r.node.fetch = func(context.Context, api.Pin, func(uint64, uint64)) error {
				if good.Load() {
					return nil
				}
				return api.Errorf(api.CodeUnavailable, "nobody has it")
			}
			r.start()
			time.Sleep(time.Second)
			wrong.Store(int64(20 * 365 * 24 * time.Hour))
			r.source.pin(a, api.ModeRecursive, "", self)
			settle()
			r.want(a, api.StatusPinError)
			wrong.Store(0)
			if restart {
				r.stop()
			}
			good.Store(true)
			if restart {
				r.start()
			}
			time.Sleep(2 * r.tracker.cfg.RetryMin)
			settle()
			r.want(a, api.StatusPinned)
			r.stop()
		})
	}
}

// A node that hangs must not keep the peer from stopping.
func TestStopWithHangingNode(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.node.pinTakes = time.Hour
		r.source.pin(nthCid(1), api.ModeRecursive, "", self)
		r.start()
		settle()
		began := time.Now()
		r.stop()
		if took := time.Since(began); took > stopGrace+time.Second {
			t.Fatalf("stopping took %s", took)
		}
		r.node.pinTakes = time.Second
		r.start()
		time.Sleep(1100 * time.Millisecond)
		r.stop() // finishes what it had begun
		if r.node.has(nthCid(1)) == "" {
			t.Fatal("after the restart it is not pinned")
		}
	})
}

func TestEvents(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var mu sync.Mutex
		var got []string
		note := func(text string) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, text)
		}
		r.events = Events{
			Pinned:       func(info api.PinInfo) { note("pinned " + info.Status.String()) },
			Failed:       func(info api.PinInfo) { note("failed " + info.Error) },
			Unpinned:     func(cid.Cid) { note("unpinned") },
			QueueChanged: func(n uint64) { note("queue") },
		}
		fail := true
		r.node.pinErr = func(api.Pin) error {
			if fail {
				fail = false
				return errors.New("not today")
			}
			return nil
		}
		r.start()
		r.source.pin(nthCid(1), api.ModeRecursive, "", self)
		time.Sleep(time.Minute)
		r.source.unpin(nthCid(1))
		settle()
		r.stop()
		got = slices.DeleteFunc(got, func(s string) bool { return s == "queue" })
		if want := []string{"failed not today", "pinned pinned", "unpinned"}; !slices.Equal(got, want) {
			t.Fatalf("events are %q, want %q", got, want)
		}
		if stats := r.tracker.Stats(); stats.Pinned != 1 || stats.Unpinned != 1 || stats.Failed[api.CodeInternal] != 1 ||
			len(stats.Failed) != 1 || stats.Pins[api.StatusPinned] != 0 || len(stats.Pins) != 7 {
			t.Errorf("stats are %+v", stats)
		}
	})
}

func TestDirOfNewerRelease(t *testing.T) {
	fs := vfs.NewMem()
	r := newRig(t)
	r.fs = fs
	r.start()
	if err := r.tracker.store.db.Set(keyVersion, []byte{0, 0, 0, 0, 0, 0, 0, layoutVersion + 1}, nil); err != nil {
		t.Fatal(err)
	}
	r.stop()
	_, err := New(r.cfg, Deps{Source: r.source, Node: r.node, FS: fs, Dir: r.dir})
	if api.CodeOf(err) != api.CodeInvalid || !strings.Contains(err.Error(), "layout 2") {
		t.Fatalf("got %v", err)
	}
}

// jumped is the same instant after the machine's clock was set: another wall
// time, the same time passed. The fields are those of package time.
func jumped(t time.Time, by time.Duration) time.Time {
	const nanosecondBits = 30
	wall := (*uint64)(unsafe.Pointer(&t))
	*wall += uint64(by/time.Second) << nanosecondBits
	return t
}

// A clock that is set ahead or back calls off no fetch that gets blocks, and
// keeps none alive that gets nothing.
func TestSetClockCallsNothingOff(t *testing.T) {
	now := time.Now()
	if back := jumped(now, 2*time.Hour); back.Sub(now) != 0 || back.Unix()-now.Unix() != 7200 {
		t.Fatalf("the test's own clock does not jump: %s, %s", now, back)
	}
	o := &op{begun: now}
	o.progress(1, 1)
	for _, by := range []time.Duration{2 * time.Minute, -2 * time.Minute, 20 * 365 * 24 * time.Hour, -10 * 365 * 24 * time.Hour} {
		if silent := o.silent(jumped(time.Now(), by)); silent < 0 || silent > time.Minute {
			t.Errorf("after a jump by %s the fetch counts as silent for %s", by, silent)
		}
	}
	late := jumped(time.Now().Add(3*time.Minute), -time.Hour)
	if silent := o.silent(late); silent < 3*time.Minute {
		t.Errorf("with the clock set back, a fetch without blocks for 3 minutes counts as silent for %s", silent)
	}
}
