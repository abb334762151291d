package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// What a condition on the pinset selects is what it selects of the merged
// list, for any distribution of statuses, any filter, and a peer that is
// silent.
func TestSelectedStatusesEqualTheMergedOnes(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newWorld(t, 3, nil)
		trackers := []*fakeTracker{w.tracker, w.others[testPeer(1)], w.others[testPeer(2)]}
		for i := range 30 {
			o := api.PinOptions{ReplicationFactorMin: 1, ReplicationFactorMax: 1 + rng.IntN(3), Name: fmt.Sprint("name", rng.IntN(3))}
			if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(i), o)); err != nil {
				t.Fatal(err)
			}
			for p := range 3 {
				if rng.IntN(2) == 0 {
					trackers[p].set(testCid(i+rng.IntN(2)*100), []api.TrackerStatus{api.StatusPinned, api.StatusPinError}[rng.IntN(2)])
				}
			}
		}
		if rng.IntN(3) == 0 {
			trackers[1].err = api.Errorf(api.CodeUnavailable, "gone")
		}
		for _, filter := range []api.TrackerStatus{0, api.StatusPinned, api.StatusError, api.StatusRemote} {
			var names []string
			for pin := range w.state.Pins(api.PinFilter{Name: "name1"}) {
				names = append(names, pin.Cid.String())
			}
			want := slices.DeleteFunc(collect(t, w, api.StatusQuery{Filter: filter}), func(line string) bool {
				return !slices.Contains(names, strings.Fields(line)[0])
			})
			got := collect(t, w, api.StatusQuery{Filter: filter, Pins: api.PinFilter{Name: "name1"}})
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, filter %s:\ngot  %q\nwant %q", seed, filter, got, want)
			}
		}
	}
}

func TestSelectedStatusesInPages(t *testing.T) {
	w := newWorld(t, 2, nil)
	var all []api.Cid
	for i := range 2*statusBatch + 10 {
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(i), api.PinOptions{Name: "x", UserAllocations: []peer.ID{testPeer(0)}})); err != nil {
			t.Fatal(err)
		}
		all = append(all, testCid(i))
	}
	slices.SortFunc(all, func(a, b api.Cid) int { return slices.Compare(a.Bytes(), b.Bytes()) })
	for _, limit := range []int{0, 3 * statusBatch / 2} {
		var pages []api.Cid
		query := api.StatusQuery{Pins: api.PinFilter{NamePrefix: "x"}, Limit: limit}
		for more := true; more; {
			more = false
			for info, err := range w.cluster.StatusAll(t.Context(), query) {
				if err != nil {
					t.Fatal(err)
				}
				query.After, more = info.Cid, limit > 0
				pages = append(pages, info.Cid)
			}
		}
		if !slices.Equal(pages, all) {
			t.Errorf("limit %d: %d of %d", limit, len(pages), len(all))
		}
	}
	n, err := w.cluster.Count(t.Context(), api.PinFilter{Name: "x"})
	if err != nil || int(n) != len(all) {
		t.Errorf("count %d, %v", n, err)
	}
	var named []string
	query := api.StatusQuery{Cids: []api.Cid{testCid(0), testCid(9999)}, Local: true, Pins: api.PinFilter{Name: "x"}}
	for info, err := range w.cluster.StatusAll(t.Context(), query) {
		if err != nil {
			t.Fatal(err)
		}
		named = append(named, info.Cid.String())
	}
	if !slices.Equal(named, []string{testCid(0).String()}) {
		t.Errorf("named CIDs that are selected: %v", named)
	}
}

func TestChangesFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, nil)
		pin := func(i int) {
			if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(i), api.PinOptions{})); err != nil {
				t.Error(err)
			}
		}
		since := w.state.Applied()
		pin(1)
		pin(2)
		if _, err := w.cluster.Unpin(t.Context(), api.UnpinRequest{Cid: testCid(1), RequestID: "u"}); err != nil {
			t.Fatal(err)
		}
		var lines []string
		show := func(c api.PinChange) {
			lines = append(lines, fmt.Sprint(c.Index-since, c.Cid == testCid(1), c.Removed, c.Pin != nil))
		}
		for c, err := range w.cluster.Changes(t.Context(), since, false) {
			if err != nil {
				t.Fatal(err)
			}
			show(c)
		}
		if want := []string{"1 true true false", "2 false false true", "3 true true false"}; !slices.Equal(lines, want) {
			t.Errorf("got %q, want %q", lines, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			var last error
			for c, err := range w.cluster.Changes(ctx, w.state.Applied(), true) {
				if last = err; err == nil {
					show(c)
				}
			}
			ended <- last
		}()
		for i := range 3 {
			synctest.Wait()
			if len(lines) != 3+i {
				t.Errorf("%d changes are told after %d", len(lines), 3+i)
			}
			pin(i + 10)
		}
		synctest.Wait()
		cancel()
		if err := <-ended; err != context.Canceled || len(lines) != 6 {
			t.Errorf("%v after %q", err, lines)
		}
		for _, err := range w.cluster.Changes(t.Context(), 1000, true) {
			if api.CodeOf(err) != api.CodeUnavailable {
				t.Errorf("an index that is not reached yet: %v", err)
			}
		}
	})
}
