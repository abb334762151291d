package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/state"
)

func pinRequest(c api.Cid, o api.PinOptions) api.PinRequest {
	return api.PinRequest{Cid: c, Options: o, RequestID: NewRequestID()}
}

func TestFactors(t *testing.T) {
	w := newWorld(t, 3, nil)
	for _, test := range []struct {
		name            string
		lo, hi          int // asked
		wantLo, wantHi  int
		wantAllocations int
		wantCode        api.Code
	}{
		{name: "defaults", wantLo: 1, wantHi: 2, wantAllocations: 2},
		{name: "min only", lo: 3, wantLo: 3, wantHi: 3, wantAllocations: 3},
		{name: "max only", hi: 3, wantLo: 1, wantHi: 3, wantAllocations: 3},
		{name: "everywhere", lo: -1, hi: -1, wantLo: -1, wantHi: -1},
		{name: "everywhere by one of them", lo: -1, wantLo: -1, wantHi: -1},
		{name: "more wanted than there are", lo: 1, hi: 9, wantLo: 1, wantHi: 9, wantAllocations: 3},
		{name: "min over max", lo: 3, hi: 2, wantCode: api.CodeInvalid},
		{name: "mixed", lo: -1, hi: 2, wantCode: api.CodeInvalid},
		{name: "more needed than there are", lo: 4, hi: 4, wantCode: api.CodeNotEnoughPeers},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := testCid(1)
			result, err := w.cluster.Pin(t.Context(), pinRequest(c, api.PinOptions{ReplicationFactorMin: test.lo, ReplicationFactorMax: test.hi}))
			if api.CodeOf(err) != test.wantCode {
				t.Fatalf("got error %v", err)
			}
			if err != nil {
				return
			}
			pin := result.Pin
			if pin.ReplicationFactorMin != test.wantLo || pin.ReplicationFactorMax != test.wantHi || len(pin.Allocations) != test.wantAllocations {
				t.Errorf("got min %d max %d on %d peers", pin.ReplicationFactorMin, pin.ReplicationFactorMax, len(pin.Allocations))
			}
			if _, err := w.cluster.Unpin(t.Context(), api.UnpinRequest{Cid: c}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t, 3, nil)
	if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{})); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		request api.PinRequest
		want    api.Code
	}{
		"no cid":              {pinRequest(api.Cid{}, api.PinOptions{}), api.CodeInvalid},
		"expired":             {pinRequest(testCid(2), api.PinOptions{ExpireAt: time.Unix(1, 0)}), api.CodeInvalid},
		"recursive to direct": {pinRequest(testCid(1), api.PinOptions{Mode: api.ModeDirect}), api.CodeInvalid},
		"stranger preferred":  {pinRequest(testCid(2), api.PinOptions{UserAllocations: []peer.ID{testPeer(77)}}), api.CodeInvalid},
		"update of nothing":   {pinRequest(testCid(2), api.PinOptions{PinUpdate: testCid(9)}), api.CodeNotFound},
	} {
		before := w.index
		if _, err := w.cluster.Pin(t.Context(), test.request); api.CodeOf(err) != test.want {
			t.Errorf("%s: got %v", name, err)
		}
		if w.index != before {
			t.Errorf("%s: something was logged", name)
		}
	}
	if _, err := w.cluster.Unpin(t.Context(), api.UnpinRequest{Cid: testCid(5)}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("unpin of nothing: %v", err)
	}
}

// A change between the decision and its place in the log is seen, and the
// decision made again on what is there then.
func TestConcurrentChangeIsDecidedAgain(t *testing.T) {
	w := newWorld(t, 3, nil)
	c := testCid(1)
	w.before = func() {
		w.propose(state.PinCommand{Pin: api.Pin{Cid: c, Type: api.TypeData, Allocations: []peer.ID{testPeer(2)},
			PinOptions: api.PinOptions{Name: "first", Mode: api.ModeRecursive, ReplicationFactorMin: 1, ReplicationFactorMax: 1}}, RequestID: "first", At: time.Now()}.Encode())
	}
	result, err := w.cluster.Pin(t.Context(), pinRequest(c, api.PinOptions{Name: "second", ReplicationFactorMin: 2, ReplicationFactorMax: 2}))
	if err != nil {
		t.Fatal(err)
	}
	if got := w.get(c); got.Name != "second" || got.Revision != result.Pin.Revision || len(got.Allocations) != 2 {
		t.Errorf("got %+v", got)
	}
}

// An answer that was lost is given again, not made again.
func TestLostAnswerIsRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		w.lose = 1
		result, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{}))
		if err != nil {
			t.Fatal(err)
		}
		if got := w.get(testCid(1)); got.Revision != result.Pin.Revision {
			t.Errorf("revision %d, answer %d", got.Revision, result.Pin.Revision)
		}
		w.lose = 1000
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(2), api.PinOptions{})); !errors.Is(err, api.ErrUnknownOutcome) {
			t.Errorf("got %v", err)
		}
		w.lose, w.leader = 0, ""
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(3), api.PinOptions{})); !errors.Is(err, api.ErrNoLeader) {
			t.Errorf("got %v", err)
		}
		w.leader = testPeer(1)
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(4), api.PinOptions{})); err != nil || w.forwarded != 1 {
			t.Errorf("after %d forwards: %v", w.forwarded, err)
		}
	})
}

// A repeat that is refused says nothing about the attempt before it, which may
// have been carried out.
func TestRefusalAfterLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		w.lose = 1
		time.AfterFunc(10*time.Millisecond, func() {
			if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{})); err != nil {
				t.Error(err)
			}
		})
		_, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{Mode: api.ModeDirect}))
		if !errors.Is(err, api.ErrUnknownOutcome) {
			t.Errorf("the pin was stored for a moment, and its client was told: %v", err)
		}
	})
}

func TestPinUpdateInheritsOnce(t *testing.T) {
	w := newWorld(t, 4, nil)
	old, new := testCid(1), testCid(2)
	from, err := w.cluster.Pin(t.Context(), pinRequest(old, api.PinOptions{Name: "site", ReplicationFactorMin: 3, ReplicationFactorMax: 3, Metadata: map[string]string{"k": "v"}}))
	if err != nil {
		t.Fatal(err)
	}
	to, err := w.cluster.Pin(t.Context(), pinRequest(new, api.PinOptions{PinUpdate: old, Name: "site 2"}))
	if err != nil {
		t.Fatal(err)
	}
	if to.Pin.Name != "site 2" || to.Pin.Metadata["k"] != "v" || !slices.Equal(to.Pin.Allocations, from.Pin.Allocations) {
		t.Errorf("got %+v", to.Pin)
	}
	// A later repair of the new pin does not look at the old one.
	if _, err := w.cluster.Unpin(t.Context(), api.UnpinRequest{Cid: old}); err != nil {
		t.Fatal(err)
	}
	if err := w.cluster.Decline(t.Context(), api.DeclineRequest{Cid: new, Peer: to.Pin.Allocations[0], Reason: "full"}); err != nil {
		t.Fatal(err)
	}
	if got := w.get(new); slices.Contains(got.Allocations, to.Pin.Allocations[0]) || len(got.Allocations) != 3 {
		t.Errorf("got %v", got.Allocations)
	}
}

func TestRemovalKeepsQuorum(t *testing.T) {
	w := newWorld(t, 3, nil)
	w.setState(2, api.PeerDown)
	if err := w.cluster.RemovePeer(t.Context(), api.RemoveRequest{Peer: testPeer(1)}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("removal of the second live voter of three: %v", err)
	}
	if err := w.cluster.RemovePeer(t.Context(), api.RemoveRequest{Peer: testPeer(2)}); err != nil {
		t.Errorf("removal of the dead one: %v", err)
	}
	if err := w.cluster.RemovePeer(t.Context(), api.RemoveRequest{Peer: testPeer(9)}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("removal of a stranger: %v", err)
	}
	w.members = w.members[:1]
	if err := w.cluster.RemovePeer(t.Context(), api.RemoveRequest{Peer: testPeer(0)}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("removal of the last voter: %v", err)
	}
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, nil)
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{ExpireAt: time.Now().Add(time.Minute)})); err != nil {
			t.Fatal(err)
		}
		w.cluster.expire(t.Context())
		if w.get(testCid(1)).Revision == 0 {
			t.Fatal("expired too early")
		}
		time.Sleep(time.Minute + time.Second)
		w.cluster.expire(t.Context())
		if w.get(testCid(1)).Revision != 0 {
			t.Fatal("not expired")
		}
	})
}

func TestJoinChecks(t *testing.T) {
	w := newWorld(t, 1, nil)
	good := api.JoinRequest{Credential: "c", Protocol: api.RPCProtocol, Time: time.Now(), Member: api.Member{ID: testPeer(5)}}
	for name, test := range map[string]struct {
		change func(*api.JoinRequest)
		want   api.Code
	}{
		"no such token": {func(*api.JoinRequest) {}, api.CodeForbidden},
		"old version":   {func(r *api.JoinRequest) { r.Protocol = "/holdfast/rpc/0" }, api.CodeInvalid},
		"skewed clock":  {func(r *api.JoinRequest) { r.Time = r.Time.Add(-time.Hour) }, api.CodeInvalid},
		"nobody":        {func(r *api.JoinRequest) { r.Member.ID = "" }, api.CodeInvalid},
		"other cluster": {func(r *api.JoinRequest) { r.ClusterID = "another" }, api.CodeInvalid},
	} {
		req := good
		test.change(&req)
		if _, err := w.cluster.Join(t.Context(), req); api.CodeOf(err) != test.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStatusOfAbsentAndUnreachable(t *testing.T) {
	w := newWorld(t, 3, nil)
	c := testCid(1)
	all := api.PinOptions{ReplicationFactorMin: 2, ReplicationFactorMax: 2, UserAllocations: []peer.ID{testPeer(0), testPeer(1)}}
	if _, err := w.cluster.Pin(t.Context(), pinRequest(c, all)); err != nil {
		t.Fatal(err)
	}
	w.tracker.set(c, api.StatusPinned)
	w.others[testPeer(1)].err = api.Errorf(api.CodeUnavailable, "no route")
	got, err := w.cluster.Status(t.Context(), c, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []api.TrackerStatus{api.StatusPinned, api.StatusClusterError, api.StatusRemote} {
		if short := got.PeerMap[testPeer(i).String()]; short.Status != want {
			t.Errorf("peer%d is %s, want %s", i, short.Status, want)
		}
	}
}

// A holder that has not come to the entry that pins something does not make it
// look unpinned.
func TestStatusOfPeersBehind(t *testing.T) {
	w := newWorld(t, 4, nil)
	c := testCid(1)
	pin, err := w.cluster.Pin(t.Context(), pinRequest(c, api.PinOptions{ReplicationFactorMin: 3, ReplicationFactorMax: 3,
		UserAllocations: []peer.ID{testPeer(0), testPeer(1), testPeer(2)}}))
	if err != nil {
		t.Fatal(err)
	}
	w.tracker.set(c, api.StatusPinned)
	w.others[testPeer(1)].set(c, api.StatusUnpinned)
	w.others[testPeer(2)].set(c, api.StatusRemote)
	got, err := w.cluster.Status(t.Context(), c, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []api.TrackerStatus{api.StatusPinned, api.StatusPinQueued, api.StatusPinQueued, api.StatusRemote} {
		short := got.PeerMap[testPeer(i).String()]
		if short.Status != want {
			t.Errorf("INV-STATUS: peer%d is %s, want %s", i, short.Status, want)
		}
		if behind := want == api.StatusPinQueued; behind != strings.Contains(short.Error, "behind the entry") {
			t.Errorf("peer%d says %q", i, short.Error)
		}
	}
	if w.cluster.Released(t.Context(), pin.Pin) {
		t.Error("INV-REPLICAS: a peer that is behind counts as one that has it")
	}
}

func TestReleasedWhenOthersHaveIt(t *testing.T) {
	w := newWorld(t, 4, nil)
	c := testCid(1)
	pin, err := w.cluster.Pin(t.Context(), pinRequest(c, api.PinOptions{ReplicationFactorMin: 2, ReplicationFactorMax: 3,
		UserAllocations: []peer.ID{testPeer(1), testPeer(2), testPeer(3)}}))
	if err != nil {
		t.Fatal(err)
	}
	w.tracker.set(c, api.StatusPinned) // our own copy does not count
	for i, want := range []bool{false, false, true, true} {
		if i > 0 {
			w.others[testPeer(i)].set(c, api.StatusPinned)
		}
		if got := w.cluster.Released(t.Context(), pin.Pin); got != want {
			t.Errorf("with %d of the new holders: %v", i, got)
		}
	}
}

func TestFullPeersAreNoSpace(t *testing.T) {
	w := newWorld(t, 2, nil)
	w.view[0].Report.FreeBytes = 0
	two := api.PinOptions{ReplicationFactorMin: 2, ReplicationFactorMax: 2}
	if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), two)); !errors.Is(err, api.ErrNoSpace) {
		t.Errorf("one of two peers is full: %v", err)
	}
	w.setState(1, api.PeerDown)
	if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), two)); !errors.Is(err, api.ErrNotEnoughPeers) {
		t.Errorf("one is full and one down: %v", err)
	}
}

// A peer that starts is suspect until its first report. That report may come at
// any moment of a decision, and none of them makes a refusal.
func TestFirstReportDuringDecision(t *testing.T) {
	everywhere := api.PinOptions{ReplicationFactorMin: api.Everywhere, ReplicationFactorMax: api.Everywhere}
	decisions := map[string]func(*world) error{
		"pin": func(w *world) error {
			_, err := w.cluster.Pin(w.t.Context(), pinRequest(testCid(1), api.PinOptions{}))
			return err
		},
		"bulk": func(w *world) error {
			if refusal := bulkAll(w.t, w.cluster, []api.BulkLine{bulkPin(1, 1, api.PinOptions{})})[0].Err; refusal != nil {
				return refusal
			}
			return nil
		},
		"add": func(w *world) error {
			_, err := w.cluster.Allocate(w.t.Context(), api.PinOptions{})
			return err
		},
		"add everywhere": func(w *world) error {
			_, err := w.cluster.Allocate(w.t.Context(), everywhere)
			return err
		},
	}
	for name, decide := range decisions {
		for moment := range 4 {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, nil)
				w.setState(0, api.PeerSuspect)
				var after func(n int) func()
				after = func(n int) func() {
					return func() {
						if n == 0 {
							w.setState(0, api.PeerUp)
							return
						}
						w.mu.Lock()
						w.seen = after(n - 1)
						w.mu.Unlock()
					}
				}
				w.seen = after(moment)
				time.AfterFunc(time.Second, func() { w.setState(0, api.PeerUp) })
				if err := decide(w); err != nil {
					t.Errorf("%s, the report came after look %d: %v", name, moment+1, err)
				}
			})
		}
	}
}

// Who is about to be known better is waited for, and nobody else.
func TestFirstSeconds(t *testing.T) {
	for name, view := range map[string]struct {
		of    func() api.PeerView
		waits bool
	}{
		"not heard enough":    {func() api.PeerView { return api.PeerView{State: api.PeerSuspect} }, true},
		"node opens":          {func() api.PeerView { return broken(api.PeerSuspect, time.Second) }, true},
		"node is broken":      {func() api.PeerView { return broken(api.PeerSuspect, time.Minute) }, false},
		"told by nobody":      {func() api.PeerView { return api.PeerView{State: api.PeerUnknown} }, true},
		"down":                {func() api.PeerView { return api.PeerView{State: api.PeerDown, Silent: 9 * time.Second} }, false},
		"back":                {func() api.PeerView { return api.PeerView{State: api.PeerDown, Silent: time.Second} }, true},
		"back without a node": {func() api.PeerView { return broken(api.PeerDown, time.Second) }, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 2, nil)
			w.change(1, func(v *api.PeerView) {
				id := v.Report.Peer
				*v = view.of()
				v.Report.Peer = id
			})
			asked := time.Now()
			_, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{ReplicationFactorMin: 2, ReplicationFactorMax: 2}))
			if want := view.waits; api.CodeOf(err) != api.CodeNotEnoughPeers || (time.Since(asked) == reportWait) != want || !want && time.Since(asked) != 0 {
				t.Errorf("%s: %v after %s", name, err, time.Since(asked))
			}
		})
	}
}

func broken(state api.PeerState, since time.Duration) api.PeerView {
	return api.PeerView{State: state, Since: time.Now().Add(-since), Report: api.PeerReport{NodeError: "not open"}}
}

// A pin-update whose answer was lost is asked again, and its source is gone by
// then: that says nothing about what became of it.
func TestUpdateOfLostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, nil)
		from, to := testCid(1), testCid(2)
		if _, err := w.cluster.Pin(t.Context(), pinRequest(from, api.PinOptions{})); err != nil {
			t.Fatal(err)
		}
		w.before = func() {
			w.propose(state.UnpinCommand{Cid: from.Cid, Expect: w.get(from).Revision, RequestID: "other", At: time.Now()}.Encode())
		}
		w.lose = 1
		_, err := w.cluster.Pin(t.Context(), pinRequest(to, api.PinOptions{PinUpdate: from}))
		if !errors.Is(err, api.ErrUnknownOutcome) || w.get(to).Revision == 0 {
			t.Errorf("%v; %s is at revision %d", err, to, w.get(to).Revision)
		}
		// Without a lost answer it is certain, and so is an unpin's in any case.
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(3), api.PinOptions{PinUpdate: from})); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("update of what is not pinned: %v", err)
		}
		w.lose = 1
		if _, err := w.cluster.Unpin(t.Context(), api.UnpinRequest{Cid: from, RequestID: NewRequestID()}); !errors.Is(err, api.ErrNotFound) {
			t.Errorf("unpin of what is not pinned: %v", err)
		}
	})
}

// What is added again stays with the holders that have it, and new copies fill
// up what is missing; a holder that lost its copy, or a wish of the user, moves it.
func TestAddedAgain(t *testing.T) {
	p := func(numbers ...int) (ids []peer.ID) {
		for _, i := range numbers {
			ids = append(ids, testPeer(i))
		}
		return ids
	}
	for name, test := range map[string]struct {
		have, pinned, added, wish, want []peer.ID
		most                            int
	}{
		"both have it":           {have: p(1, 2), pinned: p(1, 2), added: p(3, 4), want: p(1, 2)},
		"one lost it":            {have: p(1, 2), pinned: p(2), added: p(3, 4), want: p(2, 3)},
		"both lost it":           {have: p(1, 2), added: p(3, 4), want: p(3, 4)},
		"one has it by this add": {have: p(1, 2), pinned: p(1), added: p(2, 3), want: p(1, 2)},
		"more are wanted":        {have: p(1), pinned: p(1), added: p(3, 4), want: p(1, 3)},
		"fewer are wanted":       {have: p(1, 2), pinned: p(1, 2), added: p(3), want: p(1), most: 1},
		"the user's wish":        {have: p(1, 2), pinned: p(1, 2), added: p(3, 4), wish: p(3, 4), want: p(3, 4)},
		"new":                    {added: p(3, 4), want: p(3, 4)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 5, nil)
			c := testCid(1)
			pin := func(added, wish []peer.ID, most int) api.Pin {
				t.Helper()
				if most == 0 {
					most = 2
				}
				request := pinRequest(c, api.PinOptions{ReplicationFactorMin: 1, ReplicationFactorMax: most, UserAllocations: wish})
				request.Allocations = added
				result, err := w.cluster.Pin(t.Context(), request)
				if err != nil {
					t.Fatal(err)
				}
				return result.Pin
			}
			if test.have != nil {
				pin(test.have, nil, 0)
			}
			for _, id := range test.pinned {
				w.others[id].set(c, api.StatusPinned)
			}
			if got := pin(test.added, test.wish, test.most).Allocations; !slices.Equal(got, test.want) {
				t.Errorf("held by %v, want %v", got, test.want)
			}
		})
	}
}

// Who holds a root directly does not hold what was added below it.
func TestAddedOverADirectPin(t *testing.T) {
	w := newWorld(t, 5, nil)
	c := testCid(1)
	holders := []peer.ID{testPeer(1), testPeer(2)}
	direct := api.PinOptions{Mode: api.ModeDirect, ReplicationFactorMin: 1, ReplicationFactorMax: 2, UserAllocations: holders}
	if _, err := w.cluster.Pin(t.Context(), pinRequest(c, direct)); err != nil {
		t.Fatal(err)
	}
	for _, id := range holders {
		w.others[id].set(c, api.StatusPinned)
	}
	request := pinRequest(c, api.PinOptions{ReplicationFactorMin: 1, ReplicationFactorMax: 2})
	request.Allocations = []peer.ID{testPeer(3), testPeer(4)}
	result, err := w.cluster.Pin(t.Context(), request)
	if err != nil || !slices.Equal(result.Pin.Allocations, request.Allocations) {
		t.Errorf("held by %v: %v", result.Pin.Allocations, err)
	}
}

// A refusal for what the pinset holds is one of a peer that leads at that time.
func TestRefusalOfDeposedLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, nil)
		from := testCid(1)
		w.deposed = func() { // while it looks, another peer leads and stores the pin
			w.propose(state.PinCommand{Pin: api.Pin{Cid: from, Type: api.TypeData, Allocations: []peer.ID{testPeer(0)},
				PinOptions: api.PinOptions{Mode: api.ModeRecursive, ReplicationFactorMin: 1, ReplicationFactorMax: 1}}, RequestID: "other", At: time.Now()}.Encode())
		}
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(2), api.PinOptions{PinUpdate: from})); err != nil {
			t.Errorf("the source was pinned by then: %v", err)
		}
	})
}
