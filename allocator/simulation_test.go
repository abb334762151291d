package allocator_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/allocator"
)

// weighted are peers of the given terabytes of free space.
func weighted(names []string, terabytes []float64) []allocator.Candidate {
	var out []allocator.Candidate
	for i, name := range names {
		out = append(out, allocator.Candidate{ID: testPeer(name), Free: uint64(terabytes[i] * (1 << 40)), Usable: true, Live: true})
	}
	return out
}

// placeAll places n pins from scratch.
func placeAll(t *testing.T, n, replicas int, candidates []allocator.Candidate) [][]peer.ID {
	t.Helper()
	out := make([][]peer.ID, n)
	for i := range out {
		got, err := allocator.Place(allocator.Request{Cid: testCid(i), Min: replicas, Max: replicas, Candidates: candidates})
		if err != nil {
			t.Fatal(err)
		}
		out[i] = got.Allocations
	}
	return out
}

func counts(placed [][]peer.ID) map[peer.ID]int {
	out := map[peer.ID]int{}
	for _, ids := range placed {
		for _, id := range ids {
			out[id]++
		}
	}
	return out
}

// within checks a share of n draws against the ideal: four standard
// deviations, which a fixed set of pins either keeps for ever or never.
func within(t *testing.T, what string, got, n int, ideal float64) {
	t.Helper()
	share := float64(got) / float64(n)
	slack := 4 * math.Sqrt(ideal*(1-ideal)/float64(n))
	t.Logf("%s: %.4f, ideal %.4f, allowed ±%.4f", what, share, ideal, slack)
	if math.Abs(share-ideal) > slack {
		t.Errorf("%s: %.4f is too far from %.4f", what, share, ideal)
	}
}

const pins = 20_000

var (
	fiveNames   = []string{"a", "b", "c", "d", "e"}
	fiveWeights = []float64{1, 2, 3, 4, 10}
)

func TestSharesFollowFreeSpace(t *testing.T) {
	placed := counts(placeAll(t, pins, 1, weighted(fiveNames, fiveWeights)))
	for i, name := range fiveNames {
		within(t, "share of "+name, placed[testPeer(name)], pins, fiveWeights[i]/20)
	}
}

// The second replica is drawn among the others by weight: the chance of a pair
// is the sum over both orders.
func TestSharesOfTwoReplicas(t *testing.T) {
	placed := counts(placeAll(t, pins, 2, weighted(fiveNames, fiveWeights)))
	for i, name := range fiveNames {
		ideal := fiveWeights[i] / 20
		for j, w := range fiveWeights {
			if j != i {
				ideal += w / 20 * fiveWeights[i] / (20 - w)
			}
		}
		within(t, "pins with a replica on "+name, placed[testPeer(name)], pins, ideal)
	}
}

func TestNewPeerMovesItsShare(t *testing.T) {
	for _, replicas := range []int{1, 2, 3} {
		before := placeAll(t, pins, replicas, weighted(fiveNames, []float64{4, 4, 4, 4, 4}))
		after := placeAll(t, pins, replicas, weighted(append(slices.Clone(fiveNames), "new"), []float64{4, 4, 4, 4, 4, 4}))
		moved, elsewhere := 0, 0
		for i := range before {
			for _, id := range after[i] {
				switch {
				case slices.Contains(before[i], id):
				case id == testPeer("new"):
					moved++
				default:
					elsewhere++
				}
			}
		}
		within(t, "replicas moved to the new peer", moved, pins*replicas, 1.0/6)
		if elsewhere > 0 {
			t.Errorf("%d replicas moved between old peers", elsewhere)
		}
	}
}

func TestLostPeerMovesOnlyItsOwn(t *testing.T) {
	all := weighted(fiveNames, fiveWeights)
	less := slices.Clone(all)
	less[4].Usable, less[4].Live = false, false
	for i, have := range placeAll(t, pins, 2, all) {
		scratch, err := allocator.Place(allocator.Request{Cid: testCid(i), Min: 2, Max: 2, Candidates: less})
		if err != nil {
			t.Fatal(err)
		}
		repaired, err := allocator.Place(allocator.Request{Cid: testCid(i), Min: 2, Max: 2, Have: have, Candidates: less})
		if err != nil {
			t.Fatal(err)
		}
		lost := slices.Contains(have, testPeer("e"))
		if len(repaired.Added) != len(repaired.Dropped) || (len(repaired.Added) == 1) != lost {
			t.Fatalf("pin %d on %v: %+v", i, have, repaired)
		}
		// Repair ends where a placement from scratch would.
		if !sameSet(scratch.Allocations, repaired.Allocations) {
			t.Fatalf("pin %d: from scratch %v, repaired %v", i, scratch.Allocations, repaired.Allocations)
		}
	}
}

// A restart of a peer, with Live kept by who asks, moves nothing.
func TestBriefAbsenceMovesNothing(t *testing.T) {
	all := weighted(fiveNames, fiveWeights)
	away := slices.Clone(all)
	away[4].Usable = false
	for i, have := range placeAll(t, 1000, 3, all) {
		got, err := allocator.Place(allocator.Request{Cid: testCid(i), Min: 2, Max: 3, Have: have, Candidates: away})
		if err != nil || len(got.Added)+len(got.Dropped) > 0 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

// Two replicas over three zones of unequal peers: never two in one zone.
func TestZonesAreSpread(t *testing.T) {
	all := weighted([]string{"a", "b", "c", "d", "e", "f"}, []float64{9, 9, 1, 1, 5, 5})
	zone := map[peer.ID]string{}
	for i := range all {
		all[i].Tags = map[string]string{"zone": []string{"x", "x", "y", "y", "z", "z"}[i]}
		zone[all[i].ID] = all[i].Tags["zone"]
	}
	for i, got := range placeAll(t, 5000, 3, all) {
		seen := map[string]bool{}
		for _, id := range got {
			seen[zone[id]] = true
		}
		if len(seen) != 3 {
			t.Fatalf("pin %d: %v uses %d zones", i, got, len(seen))
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	for _, peers := range []int{3, 10, 1000} {
		var names []string
		var sizes []float64
		for n := range peers {
			names, sizes = append(names, string(rune('a'+n))), append(sizes, float64(n%7+1))
		}
		all := weighted(names, sizes)
		b.Run(fmt.Sprint(peers), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if _, err := allocator.Place(allocator.Request{Cid: testCid(i % 1000), Min: 2, Max: 3, Candidates: all}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
