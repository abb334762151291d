package pintracker

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Repair, and a user who gives a pin another name, an expiry or metadata, change
// its revision and ask for nothing that must be read: of a million pins that are
// moved when a peer is lost, no block is looked at.
func TestOtherChangesDoNotLook(t *testing.T) {
	for _, former := range []bool{false, true} { // records of a release that kept no time of asking
		bubble(t, func(t *testing.T, r *rig) {
			r.cfg.WalkEvery = 1000 * time.Hour
			a := nthCid(1)
			pin := api.Pin{PinOptions: api.PinOptions{Mode: api.ModeRecursive, ReplicationFactorMin: 1, ReplicationFactorMax: 2},
				Cid: api.NewCid(a), Allocations: []peer.ID{self}, Timestamp: time.Now().Truncate(time.Second)}
			r.source.set(pin)
			r.start()
			defer r.stop()
			time.Sleep(time.Minute) // the slow walk
			if former {
				r.forgetAsked(a)
			}
			before := r.node.checks(a)
			quiet := func(what string) {
				t.Helper()
				r.source.set(pin)
				time.Sleep(time.Minute)
				synctest.Wait()
				if looks := r.node.checks(a) - before; looks != 0 {
					t.Fatalf("%s: looked at %d times", what, looks)
				}
				if r.want(a, api.StatusPinned); r.tracker.Counts()[api.StatusPinned] != 1 {
					t.Fatalf("%s: %v", what, r.tracker.Counts())
				}
			}
			pin.Allocations = []peer.ID{self, other}
			quiet("replicas moved")
			asked := func(change func()) {
				change()
				pin.Timestamp = time.Now().Truncate(time.Second)
			}
			asked(func() { pin.Name = "other" })
			quiet("another name")
			asked(func() { pin.Metadata = map[string]string{"k": "v", "l": "w"} })
			quiet("metadata")
			asked(func() { pin.ExpireAt = time.Now().Add(time.Hour) })
			quiet("expiry")
			asked(func() { pin.ReplicationFactorMax = 3 })
			quiet("another maximum")

			asked(func() {})
			r.source.set(pin)
			time.Sleep(time.Second)
			synctest.Wait()
			if r.node.checks(a) != before+1 {
				t.Fatal("a repeated pin is not looked at")
			}
			before++
			quiet("the same again, as repair does")
		})
	}
}

// forgetAsked makes a record one of a release that did not keep when its pin was
// asked for.
func (r *rig) forgetAsked(c cid.Cid) {
	r.t.Helper()
	r.tracker.mu.Lock()
	defer r.tracker.mu.Unlock()
	rec, _, err := r.tracker.store.get(c.KeyString())
	if err != nil {
		r.t.Fatal(err)
	}
	former := rec
	former.asked, former.wishes = 0, 0
	b := r.tracker.store.batch()
	if err := errors.Join(b.put(c.KeyString(), &rec, &former), b.commit()); err != nil {
		r.t.Fatal(err)
	}
}

// Large blocks are read no faster than small ones: what a disk must do is counted
// in bytes, too.
func TestWalksArePacedByBytes(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const n, size = 600, 1 << 20
		r.node.blockBytes = size
		r.cfg.WalkEvery = 100 * time.Hour
		for i := range n {
			r.source.pin(nthCid(i), api.ModeRecursive, "", self)
		}
		r.start()
		defer r.stop()
		looksIn := func(d time.Duration) int {
			r.node.mu.Lock()
			clear(r.node.checked)
			r.node.mu.Unlock()
			time.Sleep(d)
			synctest.Wait()
			r.node.mu.Lock()
			defer r.node.mu.Unlock()
			return len(r.node.checked)
		}
		for _, speed := range []struct {
			what  string
			begin func()
			bytes uint64
		}{
			{"slow walk", func() { time.Sleep(r.cfg.WalkEvery) }, uint64(r.tracker.cfg.WalkPace) * walkBlock},
			{"repeated", r.tracker.lookAtAll, askedBytes},
			{"damage", func() {
				time.Sleep(time.Hour) // the others are through
				r.node.mu.Lock()
				r.node.damaged = []cid.Cid{nthCid(9999)}
				r.node.mu.Unlock()
				wake(r.node.damage)
				time.Sleep(damageGrace)
			}, damageBytes},
		} {
			speed.begin()
			want := int(4 * speed.bytes / size)
			if got := looksIn(4 * time.Second); got < want*8/10 || got > want*12/10 {
				t.Errorf("%s: %d blocks of 1 MiB in 4 s, want %d", speed.what, got, want)
			}
			time.Sleep(time.Hour)
		}
	})
}

// The first start after an upgrade is not felt: what a release before did not
// look at is left to the slow walk.
func TestUpgradeLooksSlowly(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		const n = 1000
		r.source.keep = 2 * n
		for i := range n {
			r.source.pin(nthCid(i), api.ModeRecursive, "", self)
		}
		r.start()
		for r.tracker.Counts()[api.StatusPinned] < n {
			settle()
		}
		r.cancel()
		s := r.tracker.store
		if err := errors.Join(<-r.done, s.db.Delete(keyRepo, nil), s.db.Delete(keyWalk, pebble.Sync), r.tracker.Close()); err != nil {
			t.Fatal(err)
		}
		clear(r.node.checked)
		r.start()
		defer r.stop()
		time.Sleep(4 * time.Second)
		r.node.mu.Lock()
		looks, most := len(r.node.checked), 5*r.tracker.cfg.WalkPace
		r.node.mu.Unlock()
		if looks == 0 || looks > most {
			t.Fatalf("%d pins were looked at in 4 s; at most %d", looks, most)
		}
		time.Sleep(time.Minute)
		r.node.mu.Lock()
		defer r.node.mu.Unlock()
		if len(r.node.checked) != n {
			t.Fatalf("%d of %d were looked at in the end", len(r.node.checked), n)
		}
	})
}
