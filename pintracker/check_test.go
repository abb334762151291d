package pintracker

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// lostBlocks makes a node that lacks blocks of some pins until it fetches them;
// fetching fails for as long as nobody has them.
func (r *rig) lostBlocks(lost map[string]bool) (nobody func(bool)) {
	none := false
	r.node.missing = func(pin api.Pin) cid.Cid {
		if lost[pin.Cid.KeyString()] {
			return nthCid(9999)
		}
		return cid.Undef
	}
	r.node.fetch = func(_ context.Context, pin api.Pin, _ func(blocks, bytes uint64)) error {
		r.node.mu.Lock()
		defer r.node.mu.Unlock()
		if lost[pin.Cid.KeyString()] && none {
			return api.Errorf(api.CodeUnavailable, "nobody has it")
		}
		delete(lost, pin.Cid.KeyString())
		r.node.damaged = nil
		return nil
	}
	return func(yes bool) {
		r.node.mu.Lock()
		defer r.node.mu.Unlock()
		none = yes
	}
}

func (r *rig) condition(name string) string {
	r.t.Helper()
	for _, c := range r.tracker.Conditions() {
		if c.Name == name {
			return c.Message
		}
	}
	return ""
}

// A repository that was emptied or exchanged while the peer was down has none
// of the pins: nothing is called pinned from the first moment on.
func TestRepositoryIsGone(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		for i := range 1500 { // more than a page
			r.source.pin(nthCid(i), api.ModeRecursive, "", self)
		}
		r.start()
		settle()
		r.want(nthCid(7), api.StatusPinned)
		r.stop()

		clear(r.node.pins)
		r.node.repoID = "second"
		stillNobody := true
		r.node.fetch = func(ctx context.Context, pin api.Pin, progress func(blocks, bytes uint64)) error {
			if stillNobody {
				return silent(ctx, pin, progress)
			}
			return nil
		}
		r.start()
		if info, _, err := r.tracker.Status(nthCid(7)); err == nil && info.Status == api.StatusPinned {
			t.Fatal("pinned before the repository was looked at")
		}
		<-r.tracker.Recognized()
		if pinned := r.all(api.StatusQuery{Filter: api.StatusPinned}); len(pinned) != 0 {
			t.Fatalf("%d pins are called pinned, and nothing is there", len(pinned))
		}
		if info := r.status(nthCid(7)); !strings.Contains(info.Error, "another one") {
			t.Fatalf("it does not say why: %+v", info)
		}
		if told := r.condition(api.AlertPinsLost); !strings.Contains(told, "1500 pins") {
			t.Fatalf("the condition is %q", told)
		}
		settle()
		r.stop() // in the middle: what was found out is not forgotten
		r.start()
		<-r.tracker.Recognized()
		if pinned := r.all(api.StatusQuery{Filter: api.StatusPinned}); len(pinned) != 0 {
			t.Fatalf("after a restart %d pins are called pinned", len(pinned))
		}
		r.stop()
		stillNobody = false
		r.start()
		settle()
		defer r.stop()
		if info := r.want(nthCid(7), api.StatusPinned); info.Error != "" || r.node.has(nthCid(7)) == "" {
			t.Fatalf("in the end: %+v, the node has %q", info, r.node.has(nthCid(7)))
		}
		if told := r.tracker.Conditions(); len(told) != 0 || len(r.node.pins) != 1500 {
			t.Fatalf("in the end: %+v, %d pins", told, len(r.node.pins))
		}
	})
}

// An older copy of the repository has its ID, and lacks the pins made since.
func TestRepositoryIsOlder(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		old, late := nthCid(1), nthCid(2)
		r.source.pin(old, api.ModeRecursive, "", self)
		r.source.pin(late, api.ModeRecursive, "", self)
		r.start()
		settle()
		r.stop()
		delete(r.node.pins, late.KeyString())
		r.node.fetch = silent
		r.start()
		defer r.stop()
		<-r.tracker.Recognized()
		r.want(old, api.StatusPinned)
		if info := r.status(late); info.Status == api.StatusPinned || !strings.Contains(info.Error, "does not have its pin") {
			t.Fatalf("what the older copy lacks is %+v", info)
		}
		if r.node.fetches(old) != 1 {
			t.Fatal("what is there was fetched again")
		}
	})
}

// The records of a release that kept no repository's ID are not believed blindly,
// and what is there is not fetched again.
func TestRepositoryOfFormerRelease(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		kept, gone, holed := nthCid(1), nthCid(2), nthCid(3)
		for _, c := range []cid.Cid{kept, gone, holed} {
			r.source.pin(c, api.ModeRecursive, "", self)
		}
		r.start()
		settle()
		s := r.tracker.store
		counts := make([]byte, 0, 8*statusBits)
		for _, n := range s.counts {
			counts = binary.BigEndian.AppendUint64(counts, n)
		}
		r.cancel()
		if err := <-r.done; err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{s.db.Delete(keyRepo, nil), s.db.Delete(keyWalk, nil), s.db.Set(keyCounts, counts, pebble.Sync), r.tracker.Close()} {
			if err != nil {
				t.Fatal(err)
			}
		}
		delete(r.node.pins, gone.KeyString())
		r.lostBlocks(map[string]bool{holed.KeyString(): true})
		r.start()
		<-r.tracker.Recognized()
		if info := r.status(gone); info.Status == api.StatusPinned {
			t.Fatalf("a pin that the node does not have: %+v", info)
		}
		settle()
		for _, c := range []cid.Cid{kept, gone, holed} {
			r.want(c, api.StatusPinned)
		}
		if r.node.fetches(kept) != 1 || r.node.fetches(gone) != 2 || r.node.fetches(holed) != 2 {
			t.Fatalf("fetched %d, %d, %d times", r.node.fetches(kept), r.node.fetches(gone), r.node.fetches(holed))
		}
		r.stop()
		r.start()
		defer r.stop()
		settle()
		if r.node.fetches(kept) != 1 {
			t.Fatal("the adopted repository is not known at the next start")
		}
	})
}

func TestRecoverLooks(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		a := nthCid(1)
		lost := map[string]bool{}
		nobody := r.lostBlocks(lost)
		r.source.pin(a, api.ModeRecursive, "", self)
		r.start()
		defer r.stop()
		settle()
		if again, err := r.tracker.Recover(a); again || err != nil {
			t.Fatalf("a whole pin is recovered: %v, %v", again, err)
		}
		nobody(true)
		lost[a.KeyString()] = true
		if again, err := r.tracker.Recover(a); !again || err != nil {
			t.Fatalf("recovering what has a hole: %v, %v", again, err)
		}
		if info := r.status(a); info.Status == api.StatusPinned || !strings.Contains(info.Error, "missing block "+nthCid(9999).String()) {
			t.Fatalf("right after recover it is %+v", info)
		}
		settle()
		if info := r.want(a, api.StatusPinError); !strings.Contains(info.Error, "missing block") || !strings.Contains(info.Error, "nobody has it") {
			t.Fatalf("while nobody has it: %+v", info)
		}
		if told := r.condition(api.AlertPinsLost); !strings.Contains(told, "1 pin is not whole") || !strings.Contains(told, "failed so far") || !strings.Contains(told, a.String()) {
			t.Fatalf("the condition is %q", told)
		}
		nobody(false)
		if again, err := r.tracker.Recover(a); !again || err != nil {
			t.Fatalf("recovering what failed: %v, %v", again, err)
		}
		settle()
		if info := r.want(a, api.StatusPinned); info.Error != "" || r.condition(api.AlertPinsLost) != "" {
			t.Fatalf("in the end: %+v, %q", info, r.condition(api.AlertPinsLost))
		}
		r.node.mu.Lock()
		r.node.checkErr = api.Errorf(api.CodeUnavailable, "too many open files")
		r.node.mu.Unlock()
		if _, err := r.tracker.Recover(a); err == nil || !strings.Contains(err.Error(), "too many open files") {
			t.Fatalf("a pin that cannot be looked at: %v", err)
		}
		r.want(a, api.StatusPinned) // it is not known to be otherwise
	})
}

func TestRepeatedPinLooks(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		a := nthCid(1)
		lost := map[string]bool{}
		r.lostBlocks(lost)
		r.source.pin(a, api.ModeRecursive, "", self)
		r.start()
		defer r.stop()
		time.Sleep(time.Second) // the times of pins are whole seconds
		r.node.mu.Lock()
		lost[a.KeyString()] = true
		r.node.mu.Unlock()
		r.source.pin(a, api.ModeRecursive, "", self)
		settle()
		r.want(a, api.StatusPinned)
		if r.node.fetches(a) != 2 || len(lost) != 0 {
			t.Fatalf("after a repeated pin it was fetched %d times", r.node.fetches(a))
		}
	})
}

// A long list of pins that are here already is looked at in the background,
// slowly, and takes a bounded memory.
func TestRepeatedBulk(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const n = maxAsked + 2000
		r.source.keep = 2 * n
		pins := make([]api.Pin, n)
		for i := range pins {
			pins[i] = api.Pin{PinOptions: api.PinOptions{Mode: api.ModeRecursive}, Cid: api.NewCid(nthCid(i)), Timestamp: time.Now()}
		}
		r.cfg.WalkEvery = 1000 * time.Hour
		all := api.Pin{PinOptions: api.PinOptions{ReplicationFactorMin: -1, ReplicationFactorMax: -1}}
		for i := range pins {
			pins[i].PinOptions = all.PinOptions
			pins[i].Mode = api.ModeRecursive
		}
		r.source.set(pins...)
		r.start()
		defer r.stop()
		for r.tracker.Counts()[api.StatusPinned] < n {
			settle()
		}
		time.Sleep(2 * time.Hour) // the slow walk
		r.node.mu.Lock()
		clear(r.node.checked)
		r.node.mu.Unlock()
		for i := range pins {
			pins[i].Timestamp = time.Now()
		}
		r.source.set(pins...)
		time.Sleep(time.Second)
		r.node.mu.Lock()
		if looks := len(r.node.checked); looks == 0 || looks > 3*askedPace {
			t.Errorf("%d pins were looked at in a second", looks)
		}
		r.node.mu.Unlock()
		r.tracker.mu.Lock()
		if waiting := len(r.tracker.looks.repeated); waiting > maxAsked {
			t.Errorf("%d wait", waiting)
		}
		r.tracker.mu.Unlock()
		time.Sleep(time.Hour)
		synctest.Wait()
		r.node.mu.Lock()
		defer r.node.mu.Unlock()
		if len(r.node.checked) != n {
			t.Errorf("%d of %d were looked at in the end", len(r.node.checked), n)
		}
	})
}

// A damaged block takes the pins that need it out of pinned, by whatever way it
// was found, and they are mended from elsewhere without anybody's doing.
func TestDamagedBlock(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cfg.WalkEvery = 1000 * time.Hour
		lost := map[string]bool{}
		nobody := r.lostBlocks(lost)
		for i := range 100 {
			r.source.pin(nthCid(i), api.ModeRecursive, "", self)
		}
		r.start()
		defer r.stop()
		time.Sleep(time.Minute)
		a, alone := nthCid(42), nthCid(43)
		damage := func(pin, block cid.Cid) {
			r.node.mu.Lock()
			lost[pin.KeyString()] = true
			r.node.damaged = []cid.Cid{block}
			r.node.mu.Unlock()
			wake(r.node.damage)
			time.Sleep(3 * time.Second)
			synctest.Wait()
		}
		nobody(true)
		damage(a, nthCid(9999))
		if info := r.want(a, api.StatusPinError); !strings.Contains(info.Error, "damaged block "+nthCid(9999).String()) {
			t.Fatalf("a pin with a damaged block: %+v", info)
		}
		if r.condition(api.AlertPinsLost) == "" {
			t.Fatal("no condition")
		}
		time.Sleep(12 * time.Hour)
		if info := r.status(a); info.Status == api.StatusPinned || r.condition(api.AlertPinsLost) == "" {
			t.Fatalf("while nobody has the block: %+v", info)
		}
		for i := range 100 {
			if c := nthCid(i); c != a && r.node.fetches(c) != 1 {
				t.Fatalf("whole pins are fetched again: %s %d times", c, r.node.fetches(c))
			}
		}
		nobody(false)
		time.Sleep(8 * time.Hour)
		r.want(a, api.StatusPinned)
		if told := r.tracker.Conditions(); len(told) != 0 {
			t.Fatalf("mended, and it says %+v", told)
		}
		// A pin of one block is found without a walk over the others.
		before := r.node.checks(nthCid(1))
		damage(alone, cid.NewCidV1(cid.Raw, alone.Hash()))
		r.want(alone, api.StatusPinned)
		if r.node.fetches(alone) != 2 || r.node.checks(nthCid(1)) != before {
			t.Fatalf("fetched %d times; another pin was looked at %d times", r.node.fetches(alone), r.node.checks(nthCid(1))-before)
		}
	})
}

// What was lost without anybody's reading it is found by the slow walk, which
// goes on after a restart from where it was, and begins again in the end.
func TestSlowWalk(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const n = 600
		r.cfg.WalkPace, r.cfg.WalkEvery = 1, time.Hour // a walk takes ten minutes
		lost := map[string]bool{}
		r.lostBlocks(lost)
		var last cid.Cid
		for i := range n {
			r.source.pin(nthCid(i), api.ModeRecursive, "", self)
			if nthCid(i).KeyString() > last.KeyString() {
				last = nthCid(i)
			}
		}
		r.start()
		time.Sleep(time.Hour + 5*time.Minute) // in the middle of the second walk at the latest
		r.node.mu.Lock()
		clear(r.node.checked)
		lost[last.KeyString()] = true
		r.node.mu.Unlock()
		r.stop()
		r.start()
		defer func() { r.stop() }()
		time.Sleep(9 * time.Minute)
		if r.node.fetches(last) != 2 {
			t.Fatal("the lost block was not found, or the walk began anew after the restart")
		}
		r.want(last, api.StatusPinned)
		r.node.mu.Lock()
		looks := len(r.node.checked)
		r.node.mu.Unlock()
		if looks == 0 || looks > n*2/3 {
			t.Fatalf("%d of %d pins were looked at after the restart", looks, n)
		}
		time.Sleep(2 * time.Hour)
		r.node.mu.Lock()
		defer r.node.mu.Unlock()
		if len(r.node.checked) != n {
			t.Fatalf("the next walk looked at %d of %d", len(r.node.checked), n)
		}
	})
}

// A walk that began by a clock that was years ahead is not waited for.
func TestSlowWalkAfterWrongClock(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cfg.WalkEvery = time.Hour
		r.source.pin(nthCid(1), api.ModeRecursive, "", self)
		r.wall = func() time.Time { return time.Now().Add(20 * 365 * 24 * time.Hour) }
		r.start()
		time.Sleep(time.Minute)
		r.stop()
		r.wall = nil
		r.start()
		defer r.stop()
		before := r.node.checks(nthCid(1))
		time.Sleep(time.Hour + time.Minute)
		if r.node.checks(nthCid(1)) == before {
			t.Fatal("no walk for an hour")
		}
	})
}

// Content that can never be pinned fails with its reason, is told of, and holds
// up nobody.
func TestUnusablePins(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		r.cfg.Workers = 2
		r.node.fetch = func(_ context.Context, pin api.Pin, _ func(blocks, bytes uint64)) error {
			if pin.Name == "bad" {
				return api.Errorf(api.CodeInvalid, "decode block %s: no protobuf", pin.Cid)
			}
			return nil
		}
		for i := range 20 {
			r.source.pin(nthCid(i), api.ModeRecursive, "bad", self)
		}
		good := nthCid(100)
		r.source.pin(good, api.ModeRecursive, "good", self)
		r.start()
		settle()
		r.want(good, api.StatusPinned)
		if info := r.want(nthCid(3), api.StatusPinError); !strings.Contains(info.Error, "no protobuf") || time.Until(*info.NextAttempt) < 4*time.Hour {
			t.Fatalf("a pin of what cannot be decoded: %+v", info)
		}
		told := r.condition(api.AlertPinsUnusable)
		if !strings.Contains(told, "20 pins") || !strings.Contains(told, "unpin") || strings.Count(told, "no protobuf") != named {
			t.Fatalf("the condition is %q", told)
		}
		r.stop()
		r.start()
		defer r.stop()
		settle()
		if again := r.condition(api.AlertPinsUnusable); again != told {
			t.Fatalf("after a restart the condition is %q", again)
		}
		for i := range 20 {
			r.source.unpin(nthCid(i))
		}
		settle()
		if told := r.tracker.Conditions(); len(told) != 0 {
			t.Fatalf("they are gone, and it says %+v", told)
		}
	})
}

// While the pinset is behind what this peer has seen, nothing is said to be on
// its way out only because the pinset has not come to it.
func TestStatusWhileThePinsetIsBehind(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		a, b := nthCid(1), nthCid(2)
		r.source.pin(a, api.ModeRecursive, "", self)
		r.source.pin(b, api.ModeRecursive, "", self)
		r.start()
		settle()
		r.stop()
		r.source.mu.Lock()
		pins, index := r.source.pins, r.source.index
		r.source.pins, r.source.index = map[string]api.Pin{}, 0
		r.source.mu.Unlock()
		r.start()
		defer r.stop()
		settle()
		r.want(a, api.StatusPinned)
		r.source.mu.Lock()
		r.source.pins, r.source.index = pins, index
		r.source.tell()
		r.source.mu.Unlock()
		r.source.unpin(b)
		settle()
		r.want(a, api.StatusPinned)
		if _, found, err := r.tracker.Status(b); found || err != nil {
			t.Fatalf("what was unpinned is still there: %v", err)
		}
	})
}
