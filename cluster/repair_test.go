package cluster

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

func TestRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		now := time.Now()
		two := api.PinOptions{ReplicationFactorMin: 2, ReplicationFactorMax: 2, UserAllocations: []peer.ID{testPeer(0), testPeer(1)}}
		loose := two
		loose.ReplicationFactorMin = 1
		for i, options := range []api.PinOptions{two, loose} {
			if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(i), options)); err != nil {
				t.Fatal(err)
			}
		}
		w.down(1)
		r := newRepair(w.cluster)
		holders := func(i int) []peer.ID { return w.get(testCid(i)).Allocations }
		step := func(after time.Duration, wantTwo, wantLoose bool) {
			t.Helper()
			time.Sleep(after)
			r.step(t.Context())
			if moved := !slices.Contains(holders(0), testPeer(1)); moved != wantTwo {
				t.Errorf("%s down: the pin below its minimum was moved: %v", time.Since(now), moved)
			}
			if moved := !slices.Contains(holders(1), testPeer(1)); moved != wantLoose {
				t.Errorf("%s down: the pin above its minimum was moved: %v", time.Since(now), moved)
			}
		}
		step(time.Second, false, false)
		step(2*time.Second, true, false)
		if got := w.cluster.Repairs(); got != (RepairStats{LostPeers: 1, LostReplicas: 1, Moved: 1}) {
			t.Errorf("one pin of two was moved, and repair says %+v", got)
		}
		before := w.index
		step(5*time.Minute, true, false)
		if w.index != before {
			t.Error("a repaired peer was repaired again")
		}
		step(6*time.Minute, true, true)
		w.setState(1, api.PeerUp)
		step(time.Second, true, true)
		if len(r.done) != 0 {
			t.Error("a peer that is back is still remembered as lost")
		}
	})
}

func TestRepairAfterRemovalAndTopUp(t *testing.T) {
	w := newWorld(t, 3, nil)
	last := w.members[2]
	w.members = w.members[:2]
	for i := range 20 {
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(i), api.PinOptions{ReplicationFactorMin: 1, ReplicationFactorMax: 3})); err != nil {
			t.Fatal(err)
		}
	}
	r := newRepair(w.cluster)
	r.step(t.Context())
	w.members = append(w.members, last)
	r.step(t.Context())
	for i := range 20 {
		if got := w.get(testCid(i)).Allocations; len(got) != 3 {
			t.Fatalf("not topped up: %v", got)
		}
	}
	if err := w.cluster.RemovePeer(t.Context(), api.RemoveRequest{Peer: testPeer(1)}); err != nil {
		t.Fatal(err)
	}
	r.step(t.Context())
	for i := range 20 {
		if got := w.get(testCid(i)).Allocations; slices.Contains(got, testPeer(1)) {
			t.Fatalf("still on the removed peer: %v", got)
		}
	}
}

// A pin that got too few replicas, because a peer was away when it was made,
// gets the others though there are not more peers than ever.
func TestTopUpFromTimeToTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		r := newRepair(w.cluster)
		r.step(t.Context())
		w.setState(2, api.PeerDown)
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{ReplicationFactorMin: 1, ReplicationFactorMax: 3})); err != nil {
			t.Fatal(err)
		}
		if got := w.get(testCid(1)).Allocations; len(got) != 2 {
			t.Fatalf("allocated to %v", got)
		}
		w.setState(2, api.PeerUp)
		time.Sleep(topUpPause + time.Second)
		r.step(t.Context())
		if got := w.get(testCid(1)).Allocations; len(got) != 3 {
			t.Fatalf("not topped up: %v", got)
		}
	})
}

// A peer that returns while its pins are being moved keeps those that were not
// moved yet, and they are moved at the set pace.
func TestRepairEndsWhenThePeerReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, func(c *Config) { c.RepairRate = 100 })
		const pins = 1000
		options := api.PinOptions{ReplicationFactorMin: 2, ReplicationFactorMax: 2, UserAllocations: []peer.ID{testPeer(0), testPeer(1)}}
		for i := range pins {
			if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(i), options)); err != nil {
				t.Fatal(err)
			}
		}
		moved := func() (n int) {
			for i := range pins {
				if !slices.Contains(w.get(testCid(i)).Allocations, testPeer(1)) {
					n++
				}
			}
			return n
		}
		w.down(1)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		r := newRepair(w.cluster)
		running.Go(func() { every(ctx, repairInterval, func() { r.step(ctx) }) })
		time.Sleep(w.cluster.cfg.BelowMinGrace + 3*time.Second)
		synctest.Wait()
		before := moved()
		if before < 100 || before > repairParallel+300 {
			t.Errorf("%d of %d pins were moved in some 3 s at 100 in a second", before, pins)
		}
		w.setState(1, api.PeerUp)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if after := moved(); after > before+100 {
			t.Errorf("%d pins were moved when the peer came back, and %d after that", before, after-before)
		}
		cancel()
		running.Wait()
	})
}

// Several lost peers are one queue, and the pins with the fewest live replicas
// come first, whoever held them.
func TestRepairBeginsWithTheFewestReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5, nil)
		holders := [][]peer.ID{{testPeer(0), testPeer(1), testPeer(3)}, {testPeer(0), testPeer(1), testPeer(2)}}
		const each = 200
		for i := range 2 * each {
			options := api.PinOptions{ReplicationFactorMin: 3, ReplicationFactorMax: 3, UserAllocations: holders[i%2]}
			if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(i), options)); err != nil {
				t.Fatal(err)
			}
		}
		w.view[3].Report.FreeBytes = 1 << 40
		for _, i := range []int{1, 2} {
			w.down(i)
		}
		time.Sleep(w.cluster.cfg.BelowMinGrace)
		begun := w.index
		newRepair(w.cluster).step(t.Context())
		var two, one []uint64 // revisions, by how many replicas were live
		for i := range 2 * each {
			pin := w.get(testCid(i))
			switch {
			case pin.Revision <= begun:
				if i%2 == 0 {
					t.Fatalf("pin %d with two live replicas of three was not moved", i)
				}
			case i%2 == 0:
				two = append(two, pin.Revision)
			default:
				one = append(one, pin.Revision)
			}
		}
		if len(one) != each || slices.Max(one) >= slices.Min(two)+repairParallel {
			t.Errorf("%d pins with one live replica were moved at %d to %d, %d with two at %d to %d",
				len(one), slices.Min(one), slices.Max(one), len(two), slices.Min(two), slices.Max(two))
		}
	})
}

// A second loss in the middle of a repair is considered at once.
func TestRepairSeesAnotherLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4, func(c *Config) { c.RepairRate = 10 })
		for i := range 1000 {
			options := api.PinOptions{ReplicationFactorMin: 2, ReplicationFactorMax: 2, UserAllocations: []peer.ID{testPeer(0), testPeer(1)}}
			if i >= 900 {
				options.ReplicationFactorMin, options.ReplicationFactorMax = 1, 1
				options.UserAllocations = []peer.ID{testPeer(2)}
			}
			if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(i), options)); err != nil {
				t.Fatal(err)
			}
		}
		w.down(1)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		r := newRepair(w.cluster)
		running.Go(func() { every(ctx, repairInterval, func() { r.step(ctx) }) })
		time.Sleep(10 * time.Second)
		w.down(2)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		moved := 0
		for i := 900; i < 1000; i++ {
			if !w.get(testCid(i)).AllocatedTo(testPeer(2)) {
				moved++
			}
		}
		if moved < 100 {
			t.Errorf("%d of 100 pins whose only replica was lost were placed anew within 18 s at 10 in a second", moved)
		}
		cancel()
		running.Wait()
	})
}
