package allocator_test

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"holdfast/allocator"
	"holdfast/api"
)

// drawRequest makes a request with any mixture of peers. A usable peer is live,
// as it is for the one who asks in earnest.
func drawRequest(t *rapid.T) allocator.Request {
	r := allocator.Request{Cid: testCid(rapid.IntRange(0, 50).Draw(t, "cid"))}
	r.Min = rapid.IntRange(1, 5).Draw(t, "min")
	r.Max = r.Min + rapid.IntRange(0, 3).Draw(t, "more")
	for n := range rapid.IntRange(0, 9).Draw(t, "peers") {
		c := allocator.Candidate{ID: testPeer(fmt.Sprint(n)), Free: uint64(rapid.IntRange(0, 5).Draw(t, "free")) << 30}
		c.Usable = rapid.IntRange(0, 3).Draw(t, "usable") > 0
		c.Live = c.Usable || rapid.Bool().Draw(t, "live")
		if zone := rapid.SampledFrom([]string{"", "x", "y", "z"}).Draw(t, "zone"); zone != "" {
			c.Tags = map[string]string{"zone": zone}
		}
		r.Candidates = append(r.Candidates, c)
	}
	some := rapid.SliceOfNDistinct(rapid.IntRange(0, 11), 0, 6, rapid.ID[int])
	for _, n := range some.Draw(t, "have") {
		r.Have = append(r.Have, testPeer(fmt.Sprint(n)))
	}
	for _, n := range some.Draw(t, "prefer") {
		r.Prefer = append(r.Prefer, testPeer(fmt.Sprint(n)))
	}
	return r
}

// dumbScore is the score by its definition, written a second time.
func dumbScore(r allocator.Request, c allocator.Candidate) float64 {
	mix := func(x uint64) uint64 {
		x += 0x9e3779b97f4a7c15
		x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
		x = (x ^ (x >> 27)) * 0x94d049bb133111eb
		return x ^ (x >> 31)
	}
	fnv64 := func(s string) uint64 {
		h := fnv.New64a()
		fmt.Fprint(h, s)
		return h.Sum64()
	}
	u := (float64(mix(mix(fnv64(r.Cid.KeyString()))^mix(fnv64(string(c.ID))))>>11) + 0.5) / (1 << 53)
	return float64(c.Free) / -math.Log(u)
}

// dumb decides as DESIGN.md says, one replica at a time, by asking of every
// pair of peers which comes first. It returns nil when there are not enough.
func dumb(r allocator.Request) []peer.ID {
	var chosen []allocator.Candidate
	is := func(list []peer.ID, c allocator.Candidate) bool { return slices.Contains(list, c.ID) }
	taken := func(c allocator.Candidate) bool {
		return slices.ContainsFunc(chosen, func(o allocator.Candidate) bool { return o.ID == c.ID })
	}
	zoneUsed := func(c allocator.Candidate) bool {
		return slices.ContainsFunc(chosen, func(o allocator.Candidate) bool { return o.Tags["zone"] == c.Tags["zone"] })
	}
	rank := func(c allocator.Candidate) int {
		if i := slices.Index(r.Prefer, c.ID); i >= 0 {
			return i
		}
		return len(r.Prefer)
	}
	able := func(c allocator.Candidate) bool { return c.Usable && c.Free > 0 }
	higher := func(a, b allocator.Candidate) bool {
		x, y := dumbScore(r, a), dumbScore(r, b)
		return x > y || x == y && a.ID < b.ID
	}
	pick := func(fits func(allocator.Candidate) bool, before func(a, b allocator.Candidate) bool) bool {
		best := -1
		for i, c := range r.Candidates {
			if fits(c) && !taken(c) && (best < 0 || before(c, r.Candidates[best])) {
				best = i
			}
		}
		if best < 0 || len(chosen) == r.Max {
			return false
		}
		chosen = append(chosen, r.Candidates[best])
		return true
	}
	for pick(func(c allocator.Candidate) bool { return is(r.Have, c) && c.Live }, func(a, b allocator.Candidate) bool {
		if able(a) != able(b) {
			return able(a)
		}
		if rank(a) != rank(b) {
			return rank(a) < rank(b)
		}
		return higher(a, b)
	}) {
	}
	for pick(func(c allocator.Candidate) bool { return able(c) && is(r.Prefer, c) }, func(a, b allocator.Candidate) bool { return rank(a) < rank(b) }) {
	}
	for pick(able, func(a, b allocator.Candidate) bool {
		if zoneUsed(a) != zoneUsed(b) {
			return zoneUsed(b)
		}
		return higher(a, b)
	}) {
	}
	if len(chosen) < r.Min {
		return nil
	}
	for pick(func(c allocator.Candidate) bool { return is(r.Have, c) && !c.Live }, func(a, b allocator.Candidate) bool {
		return slices.Index(r.Have, a.ID) < slices.Index(r.Have, b.ID)
	}) {
	}
	out := []peer.ID{}
	for _, c := range chosen {
		out = append(out, c.ID)
	}
	return out
}

func TestPlaceAgreesWithTheDumbOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		want := dumb(r)
		got, err := allocator.Place(r)
		if (err == nil) != (want != nil) || err != nil && api.CodeOf(err) != api.CodeNotEnoughPeers {
			t.Fatalf("error %v, want allocations %v", err, want)
		}
		if !sameSet(got.Allocations, want) {
			t.Fatalf("allocations %v, want %v", got.Allocations, want)
		}
	})
}

func TestPlaceProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRequest(t)
		got, err := allocator.Place(r)
		if err != nil {
			return
		}
		known := map[peer.ID]allocator.Candidate{}
		live, usable := 0, 0
		for _, c := range r.Candidates {
			known[c.ID] = c
			if c.Live && slices.Contains(r.Have, c.ID) {
				live++
			}
			if c.Usable && c.Free > 0 {
				usable++
			}
		}
		checkShape(t, r, got, known)
		for _, id := range got.Dropped {
			if known[id].Live && live <= r.Max {
				t.Fatalf("dropped the live %s without need", id)
			}
		}
		if len(got.Allocations) < r.Max && usable > len(got.Allocations) {
			t.Fatalf("%d of %d replicas, though %d peers are usable", len(got.Allocations), r.Max, usable)
		}
		// The order of the candidates says nothing.
		turned := r
		turned.Candidates = slices.Clone(r.Candidates)
		slices.Reverse(turned.Candidates)
		if again, err := allocator.Place(turned); err != nil || !slices.Equal(again.Allocations, got.Allocations) {
			t.Fatalf("candidates reversed: %v, %v, before %v", again.Allocations, err, got.Allocations)
		}
		// Who asks again gets the same.
		again := r
		again.Have = got.Allocations
		if second, err := allocator.Place(again); err != nil || !slices.Equal(second.Allocations, got.Allocations) || len(second.Added)+len(second.Dropped) > 0 {
			t.Fatalf("asked again: %+v, %v, before %v", second, err, got.Allocations)
		}
	})
}

// checkShape checks that the parts of a decision fit together.
func checkShape(t *rapid.T, r allocator.Request, got allocator.Decision, known map[peer.ID]allocator.Candidate) {
	if n := len(got.Allocations); n < r.Min || n > r.Max {
		t.Fatalf("%d allocations for %d to %d", n, r.Min, r.Max)
	}
	seen := map[peer.ID]bool{}
	for _, id := range got.Allocations {
		if _, ok := known[id]; !ok || seen[id] {
			t.Fatalf("%s is unknown or twice in %v", id, got.Allocations)
		}
		seen[id] = true
		if slices.Contains(got.Added, id) == slices.Contains(r.Have, id) {
			t.Fatalf("%s: added is not the difference to have", id)
		}
		if c := known[id]; slices.Contains(got.Added, id) && (!c.Usable || c.Free == 0) {
			t.Fatalf("added %+v", c)
		}
	}
	for _, id := range r.Have {
		if seen[id] == slices.Contains(got.Dropped, id) {
			t.Fatalf("%s: dropped is not the difference from have", id)
		}
	}
	reasons, err := allocator.Explain(r)
	if err != nil || len(reasons) < len(known) {
		t.Fatalf("%d reasons for %d peers, %v", len(reasons), len(known), err)
	}
	for _, reason := range reasons {
		if reason.Chosen != seen[reason.Peer] || reason.Text == "" {
			t.Fatalf("reason %+v", reason)
		}
	}
}
