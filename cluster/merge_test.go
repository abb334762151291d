package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// collect lists "cid peer status" lines of a query.
func collect(t *testing.T, w *world, q api.StatusQuery) []string {
	t.Helper()
	var out []string
	var last []byte
	for info, err := range w.cluster.StatusAll(t.Context(), q) {
		if err != nil {
			t.Fatal(err)
		}
		if slices.Compare(last, info.Cid.Bytes()) >= 0 && last != nil {
			t.Fatalf("%s comes out of order", info.Cid)
		}
		last = info.Cid.Bytes()
		for name, short := range info.PeerMap {
			out = append(out, fmt.Sprint(info.Cid, " ", name, " ", short.Status))
		}
	}
	slices.Sort(out)
	return out
}

// The merged list says of every pin and peer what the peers' own lists and the
// pinset say together, for any distribution of both, any filter and a peer
// that stops answering anywhere.
func TestMergeEqualsModel(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t, 3, nil)
		trackers := []*fakeTracker{w.tracker, w.others[testPeer(1)], w.others[testPeer(2)]}
		pins := map[int]api.Pin{}
		for i := range 20 {
			if rng.IntN(3) == 0 {
				continue
			}
			n := 1 + rng.IntN(3)
			result, err := w.cluster.Pin(t.Context(), pinRequest(testCid(i), api.PinOptions{ReplicationFactorMin: n, ReplicationFactorMax: n}))
			if err != nil {
				t.Fatal(err)
			}
			pins[i] = result.Pin
		}
		statuses := []api.TrackerStatus{api.StatusPinned, api.StatusPinning, api.StatusPinError, api.StatusUnpinning}
		known := map[[2]int]api.TrackerStatus{}
		for i := range 20 {
			for p := range 3 {
				if rng.IntN(2) == 0 {
					s := statuses[rng.IntN(len(statuses))]
					known[[2]int{i, p}] = s
					trackers[p].set(testCid(i), s)
				}
			}
		}
		dead := rng.IntN(3) // 0: nobody
		after := -1
		if dead > 0 {
			after = rng.IntN(len(trackers[dead].infos) + 1)
			trackers[dead].err, trackers[dead].after = api.Errorf(api.CodeUnavailable, "gone"), after
		}
		for _, filter := range []api.TrackerStatus{0, api.StatusPinned, api.StatusError, api.StatusRemote} {
			got := collect(t, w, api.StatusQuery{Filter: filter})
			want := mergeModel(w, pins, known, trackers, dead, filter)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, filter %s, peer%d dead after %d:\ngot  %q\nwant %q", seed, filter, dead, after, got, want)
			}
		}
	}
}

func mergeModel(w *world, pins map[int]api.Pin, known map[[2]int]api.TrackerStatus, trackers []*fakeTracker, dead int, filter api.TrackerStatus) []string {
	var out []string
	// What the dead peer said last before it fell silent bounds what is known of it.
	var lastSaid []byte
	if dead > 0 {
		for _, info := range trackers[dead].infos[:trackers[dead].after] {
			if info.Status.Match(filter) || filter == api.StatusRemote {
				lastSaid = info.Cid.Bytes()
			}
		}
	}
	for i := range 20 {
		for p := range 3 {
			pin, inPinset := pins[i]
			status, told := known[[2]int{i, p}]
			allocated := inPinset && pin.AllocatedTo(testPeer(p))
			if dead == p && p > 0 && slices.Compare(testCid(i).Bytes(), lastSaid) > 0 {
				status, told = api.StatusClusterError, allocated
			}
			switch {
			case told:
			case !inPinset:
				continue
			case !allocated:
				status = api.StatusRemote
			case filter == 0:
				status = api.StatusPinQueued // committed, and not seen by its tracker yet
			default:
				continue
			}
			if status.Match(filter) {
				out = append(out, fmt.Sprint(testCid(i), " ", testPeer(p), " ", status))
			}
		}
	}
	slices.Sort(out)
	return out
}

func TestMergeLimitAndCursor(t *testing.T) {
	w := newWorld(t, 2, nil)
	for i := range 10 {
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(i), api.PinOptions{UserAllocations: []peer.ID{testPeer(0)}})); err != nil {
			t.Fatal(err)
		}
	}
	var pages []api.Cid
	var after api.Cid
	for {
		n := 0
		for info, err := range w.cluster.StatusAll(t.Context(), api.StatusQuery{After: after, Limit: 3}) {
			if err != nil {
				t.Fatal(err)
			}
			after = info.Cid
			pages = append(pages, info.Cid)
			n++
		}
		if n == 0 {
			break
		}
	}
	if len(pages) != 10 {
		t.Errorf("%d of 10 in pages of 3", len(pages))
	}
}
