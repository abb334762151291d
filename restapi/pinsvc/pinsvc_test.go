package pinsvc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/restapi/pinsvc"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"
)

var (
	peerA = must(api.DecodePeer("12D3KooWGRUVh7vKjCTiUzvEgYd9Z6DNxqVSqaGeFrMJyC8Mpnn5"))
	peerB = must(api.DecodePeer("12D3KooWHVXoJnv2ifmr9K6LWwJPXxkfvzZRHzjiTZMvybeTnwPy"))
	then  = time.Date(2026, 11, 20, 23, 35, 21, 0, time.UTC)
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func cidOf(i int) api.Cid {
	return api.NewCid(cid.NewCidV1(cid.Raw, must(multihash.Sum(fmt.Append(nil, i), multihash.SHA2_256, -1))))
}

// fakeCluster is a pinset in memory with given statuses.
type fakeCluster struct {
	pins     map[api.Cid]api.Pin
	statuses map[api.Cid][]api.TrackerStatus // of peers A and B; none: pinned on both
	requests []string                        // ids of the writes
	filters  []api.PinFilter                 // of the lists of pins
	fail     error
	asked    []api.StatusQuery
	looked   int // pins that Newest yielded
}

func newFake() *fakeCluster {
	return &fakeCluster{pins: map[api.Cid]api.Pin{}, statuses: map[api.Cid][]api.TrackerStatus{}}
}

func (f *fakeCluster) Pin(_ context.Context, r api.PinRequest) (api.PinResult, error) {
	f.requests = append(f.requests, r.RequestID)
	if f.fail != nil {
		return api.PinResult{}, f.fail
	}
	pin := api.Pin{PinOptions: r.Options, Cid: r.Cid, Type: api.TypeData, Allocations: []peer.ID{peerA, peerB}, Timestamp: then}
	if pin.ReplicationFactorMin == 0 {
		pin.ReplicationFactorMin, pin.ReplicationFactorMax = 2, 2
	}
	f.pins[r.Cid] = pin
	return api.PinResult{Pin: pin}, nil
}

func (f *fakeCluster) Unpin(_ context.Context, r api.UnpinRequest) (api.PinResult, error) {
	f.requests = append(f.requests, r.RequestID)
	delete(f.pins, r.Cid)
	return api.PinResult{}, nil
}

func (f *fakeCluster) Allocation(_ context.Context, c api.Cid) (api.Pin, error) {
	pin, ok := f.pins[c]
	if !ok {
		return pin, api.Errorf(api.CodeNotFound, "not pinned")
	}
	return pin, f.fail
}

func (f *fakeCluster) sorted() []api.Cid {
	return slices.SortedFunc(maps.Keys(f.pins), func(a, b api.Cid) int { return bytes.Compare(a.Bytes(), b.Bytes()) })
}

func (f *fakeCluster) Allocations(_ context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	f.filters = append(f.filters, filter)
	return func(yield func(api.Pin, error) bool) {
		for _, c := range f.sorted() {
			if filter.Selects(f.pins[c]) && !yield(f.pins[c], nil) {
				return
			}
		}
		if f.fail != nil {
			yield(api.Pin{}, f.fail)
		}
	}
}

func (f *fakeCluster) Newest(_ context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	pins := slices.DeleteFunc(slices.Collect(maps.Values(f.pins)), func(pin api.Pin) bool { return !filter.Selects(pin) })
	slices.SortFunc(pins, func(a, b api.Pin) int { return b.Timestamp.Compare(a.Timestamp) })
	return func(yield func(api.Pin, error) bool) {
		for _, pin := range pins {
			f.looked++
			if !yield(pin, nil) {
				return
			}
		}
		if f.fail != nil {
			yield(api.Pin{}, f.fail)
		}
	}
}

func (f *fakeCluster) Count(_ context.Context, filter api.PinFilter) (uint64, error) {
	n := uint64(0)
	for _, pin := range f.pins {
		if filter.Selects(pin) {
			n++
		}
	}
	return n, f.fail
}

func (f *fakeCluster) Status(_ context.Context, c api.Cid, _ bool) (api.GlobalPinInfo, error) {
	info := f.pins[c].GlobalInfo()
	info.Cid = c
	statuses := f.statuses[c]
	if statuses == nil {
		statuses = []api.TrackerStatus{api.StatusPinned, api.StatusPinned}
	}
	for i, status := range statuses {
		id := []peer.ID{peerA, peerB}[i]
		short := api.PinInfoShort{Status: status, IPFS: id, IPFSAddresses: []multiaddr.Multiaddr{multiaddr.StringCast(fmt.Sprintf("/ip4/203.0.113.%d/tcp/4001", i))}}
		if status == api.StatusPinError {
			short.Error = "no blocks"
		}
		info.PeerMap[id.String()] = short
	}
	return info, nil
}

func (f *fakeCluster) StatusAll(ctx context.Context, q api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
	f.asked = append(f.asked, q)
	return func(yield func(api.GlobalPinInfo, error) bool) {
		for _, c := range f.sorted() {
			if len(q.Cids) > 0 && !slices.Contains(q.Cids, c) || !q.Pins.Selects(f.pins[c]) {
				continue
			}
			info, _ := f.Status(ctx, c, false)
			maps.DeleteFunc(info.PeerMap, func(_ string, short api.PinInfoShort) bool { return !short.Status.Match(q.Filter) })
			if len(info.PeerMap) > 0 && !yield(info, nil) {
				return
			}
		}
	}
}

type result struct {
	RequestID string    `json:"requestid"`
	Status    string    `json:"status"`
	Created   time.Time `json:"created"`
	Pin       struct {
		Cid     string            `json:"cid"`
		Name    string            `json:"name"`
		Origins []string          `json:"origins"`
		Meta    map[string]string `json:"meta"`
	} `json:"pin"`
	Delegates []string          `json:"delegates"`
	Info      map[string]string `json:"info"`
}

type listing struct {
	Count   int      `json:"count"`
	Results []result `json:"results"`
}

func do(t *testing.T, f *fakeCluster, method, target, body string, out any) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Idempotency-Key", "key")
	pinsvc.New(f, pinsvc.Config{}).ServeHTTP(w, r)
	if out != nil {
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			t.Fatalf("%s %s: %v in %s", method, target, err, w.Body)
		}
	}
	return w
}

func TestLifeOfARequest(t *testing.T) {
	f := newFake()
	c, d := cidOf(1), cidOf(2)
	f.statuses[c] = []api.TrackerStatus{api.StatusPinned, api.StatusPinQueued}
	origin := "/ip4/1.2.3.4/tcp/1/p2p/" + peerA.String()
	var got result
	w := do(t, f, "POST", "/pins", fmt.Sprintf(`{"cid":%q,"name":"n","meta":{"a":"b"},"origins":[%q],"unknown":1}`, c, origin), &got)
	if w.Code != 202 || got.RequestID != c.String() || got.Status != "pinning" || got.Pin.Name != "n" || got.Pin.Meta["a"] != "b" ||
		!slices.Equal(got.Pin.Origins, []string{origin}) || got.Created.Truncate(time.Second) != then ||
		!slices.Equal(got.Delegates, []string{"/ip4/203.0.113.0/tcp/4001/p2p/" + peerA.String(), "/ip4/203.0.113.1/tcp/4001/p2p/" + peerB.String()}) {
		t.Errorf("create: %d %s", w.Code, w.Body)
	}
	f.pins[c] = func() api.Pin { p := f.pins[c]; p.ReplicationFactorMin = 1; return p }()
	if w = do(t, f, "GET", "/pins/"+c.String(), "", &got); w.Code != 200 || got.Status != "pinned" {
		t.Errorf("get: %d %s", w.Code, w.Body)
	}
	got = result{}
	w = do(t, f, "POST", "/pins/"+c.String(), fmt.Sprintf(`{"cid":%q,"name":"other"}`, d), &got)
	if w.Code != 202 || got.RequestID != d.String() || got.Pin.Name != "other" || got.Pin.Meta != nil {
		t.Errorf("replace: %d %s", w.Code, w.Body)
	}
	if _, there := f.pins[c]; there || f.pins[d].ReplicationFactorMin != 1 || !slices.Equal(f.pins[d].UserAllocations, []peer.ID{peerA, peerB}) {
		t.Errorf("replaced pins: %+v", f.pins)
	}
	// By itself: new name, still pinned.
	if w = do(t, f, "POST", "/pins/"+d.String(), fmt.Sprintf(`{"cid":%q,"name":"third"}`, d), nil); w.Code != 202 || f.pins[d].Name != "third" {
		t.Errorf("replace by itself: %d %v", w.Code, f.pins)
	}
	if w = do(t, f, "DELETE", "/pins/"+d.String(), "", nil); w.Code != 202 || w.Body.Len() != 0 || len(f.pins) != 0 {
		t.Errorf("remove: %d %s", w.Code, w.Body)
	}
	slices.Sort(f.requests)
	if len(slices.Compact(f.requests)) != 5 || slices.Contains(f.requests, "key") {
		t.Errorf("one key for different requests gave ids %q", f.requests)
	}
}

func TestErrors(t *testing.T) {
	f := newFake()
	known := cidOf(1)
	f.pins[known] = api.Pin{Cid: known}
	pin := fmt.Sprintf(`{"cid":%q}`, known)
	for _, tc := range []struct {
		method, target, body string
		fail                 error
		status               int
		reason, details      string
	}{
		{"POST", "/pins", `{}`, nil, 400, "BAD_REQUEST", "the cid is missing"},
		{"POST", "/pins", `{"cid":"x"}`, nil, 400, "BAD_REQUEST", `"x" is not a CID`},
		{"POST", "/pins", `nonsense`, nil, 400, "BAD_REQUEST", "not a pin"},
		{"POST", "/pins", ``, nil, 400, "BAD_REQUEST", "not a pin"},
		{"POST", "/pins", strings.TrimSuffix(pin, "}") + `,"name":"` + strings.Repeat("ü", 256) + `"}`, nil, 400, "BAD_REQUEST", "255 characters"},
		{"POST", "/pins", strings.TrimSuffix(pin, "}") + `,"origins":["here"]}`, nil, 400, "BAD_REQUEST", "not a multiaddr"},
		{"POST", "/pins", strings.TrimSuffix(pin, "}") + `,"meta":{"a":1}}`, nil, 400, "BAD_REQUEST", "not a pin"},
		{"POST", "/pins", strings.Repeat(" ", 300<<10) + pin, nil, 413, "TOO_LARGE", "larger than"},
		{"POST", "/pins", pin, api.Errorf(api.CodeNotEnoughPeers, "need 2, have 1"), 503, "NOT_ENOUGH_PEERS", "need 2"},
		{"POST", "/pins", pin, errors.New("broke"), 500, "INTERNAL_SERVER_ERROR", "broke"},
		{"GET", "/pins", "", api.Errorf(api.CodeUnavailable, "starting"), 503, "UNAVAILABLE", "starting"},
		{"GET", "/pins/" + cidOf(9).String(), "", nil, 404, "NOT_FOUND", "no pin request"},
		{"GET", "/pins/x", "", nil, 404, "NOT_FOUND", "no pin request"},
		{"POST", "/pins/" + cidOf(9).String(), pin, nil, 404, "NOT_FOUND", "no pin request"},
		{"POST", "/pins/" + known.String(), "{}", nil, 400, "BAD_REQUEST", "the cid is missing"},
		{"DELETE", "/pins/" + cidOf(9).String(), "", nil, 404, "NOT_FOUND", "no pin request"},
		{"GET", "/nothing", "", nil, 404, "NOT_FOUND", "/nothing"},
		{"PATCH", "/pins", "", nil, 405, "METHOD_NOT_ALLOWED", "PATCH"},
		{"GET", "/pins?limit=0", "", nil, 400, "BAD_REQUEST", "parameter limit"},
		{"GET", "/pins?limit=1001", "", nil, 400, "BAD_REQUEST", "parameter limit"},
		{"GET", "/pins?limit=x", "", nil, 400, "BAD_REQUEST", "parameter limit"},
		{"GET", "/pins?cid=x", "", nil, 400, "BAD_REQUEST", "parameter cid"},
		{"GET", "/pins?match=like", "", nil, 400, "BAD_REQUEST", "parameter match"},
		{"GET", "/pins?status=pinned,done", "", nil, 400, "BAD_REQUEST", "parameter status"},
		{"GET", "/pins?before=now", "", nil, 400, "BAD_REQUEST", "parameter before"},
		{"GET", "/pins?after=now", "", nil, 400, "BAD_REQUEST", "parameter after"},
		{"GET", "/pins?meta=[]", "", nil, 400, "BAD_REQUEST", "parameter meta"},
		{"GET", "/pins?name=" + strings.Repeat("n", 256), "", nil, 400, "BAD_REQUEST", "parameter name"},
		{"GET", "/pins?x=%zz", "", nil, 400, "BAD_REQUEST", "query string"},
	} {
		f.fail = tc.fail
		var got struct {
			Error struct{ Reason, Details string }
		}
		w := do(t, f, tc.method, tc.target, tc.body, &got)
		if w.Code != tc.status || got.Error.Reason != tc.reason || !strings.Contains(got.Error.Details, tc.details) {
			t.Errorf("%s %.60s %.40s: %d %s", tc.method, tc.target, tc.body, w.Code, w.Body)
		}
	}
	if len(f.pins) != 1 {
		t.Errorf("something was pinned: %v", f.pins)
	}
}

func TestStatus(t *testing.T) {
	type s = []api.TrackerStatus
	const ok, work, wait, bad, silent = api.StatusPinned, api.StatusPinning, api.StatusPinQueued, api.StatusPinError, api.StatusClusterError
	for _, tc := range []struct {
		least    int
		statuses s
		want     string
	}{
		{2, s{ok, ok}, "pinned"},
		{1, s{ok, bad}, "pinned"},
		{2, s{ok, bad}, "pinning"},
		{2, s{ok, wait}, "pinning"},
		{2, s{work, bad}, "pinning"},
		{2, s{wait, bad}, "queued"},
		{2, s{wait, wait}, "queued"},
		{2, s{bad, bad}, "failed"},
		{1, s{bad, api.StatusRemote}, "failed"},
		{2, s{bad, silent}, "queued"},
		{2, s{silent, silent}, "queued"},
		{2, s{api.StatusUnexpectedlyUnpinned, api.StatusUnpinned}, "queued"},
		{-1, s{ok, ok}, "pinned"},
		{-1, s{ok, silent}, "pinned"},
		{-1, s{ok, work}, "pinning"},
		{-1, s{}, "queued"},
	} {
		f := newFake()
		c := cidOf(1)
		f.pins[c] = api.Pin{Cid: c, PinOptions: api.PinOptions{ReplicationFactorMin: tc.least}}
		f.statuses[c] = tc.statuses
		var got result
		do(t, f, "GET", "/pins/"+c.String(), "", &got)
		if got.Status != tc.want {
			t.Errorf("min %d, %v: %s, want %s", tc.least, tc.statuses, got.Status, tc.want)
		}
		if (got.Info["status_details"] == "no blocks") != (slices.Contains(tc.statuses, bad) && tc.want != "pinned") {
			t.Errorf("%v: info %v", tc.statuses, got.Info)
		}
	}
}

// A big pinset, listed in every way, against a list made by hand.
func TestList(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	f := newFake()
	byCid := map[string]result{}
	words := [][]api.TrackerStatus{nil, {api.StatusPinQueued, api.StatusPinQueued}, {api.StatusPinning, api.StatusPinned}, {api.StatusPinError, api.StatusPinError}}
	for i := range 1500 {
		c := cidOf(i)
		f.pins[c] = api.Pin{Cid: c, Type: api.TypeData, Timestamp: then.Add(time.Duration(random.IntN(20)) * time.Second), PinOptions: api.PinOptions{
			ReplicationFactorMin: 2, Name: fmt.Sprintf("Pin %d", i%10), Metadata: map[string]string{"app": fmt.Sprint(i % 3), "n": fmt.Sprint(i)}}}
		f.statuses[c] = words[random.IntN(len(words))]
		var r result
		do(t, f, "GET", "/pins/"+c.String(), "", &r)
		byCid[r.Pin.Cid] = r
	}
	all := slices.SortedFunc(maps.Values(byCid), func(a, b result) int { return b.Created.Compare(a.Created) })
	middle := all[700].Created
	for _, tc := range []struct {
		query string
		want  func(result) bool
	}{
		{"", func(r result) bool { return r.Status == "pinned" }},
		{"limit=1000", func(r result) bool { return r.Status == "pinned" }},
		{"status=queued,pinning,pinned,failed&limit=37", func(result) bool { return true }},
		{"status=failed&status=queued&limit=100", func(r result) bool { return r.Status == "failed" || r.Status == "queued" }},
		{"status=failed&name=Pin+3", func(r result) bool { return r.Status == "failed" && r.Pin.Name == "Pin 3" }},
		{"name=pin+3", func(result) bool { return false }},
		{"name=pin+3&match=iexact", func(r result) bool { return r.Status == "pinned" && r.Pin.Name == "Pin 3" }},
		{"name=in&match=partial", func(r result) bool { return r.Status == "pinned" }},
		{"name=IN+4&match=ipartial", func(r result) bool { return r.Status == "pinned" && r.Pin.Name == "Pin 4" }},
		{"meta=" + url.QueryEscape(`{"app":"1","n":"7"}`) + "&status=queued,pinning,pinned,failed", func(r result) bool { return r.Pin.Meta["n"] == "7" }},
		{"before=" + url.QueryEscape(middle.Format(time.RFC3339Nano)), func(r result) bool { return r.Status == "pinned" && r.Created.Before(middle) }},
		{"after=" + url.QueryEscape(middle.Format(time.RFC3339Nano)), func(r result) bool { return r.Status == "pinned" && r.Created.After(middle) }},
		{"status=queued,pinning,pinned,failed&before=" + url.QueryEscape(middle.Format(time.RFC3339Nano)), func(r result) bool { return r.Created.Before(middle) }},
		{"status=queued,pinning,pinned,failed&limit=1000&before=" + url.QueryEscape(middle.Format(time.RFC3339Nano)) + "&after=" + url.QueryEscape(all[1100].Created.Format(time.RFC3339Nano)),
			func(r result) bool { return r.Created.Before(middle) && r.Created.After(all[1100].Created) }},
		{"status=queued,pinning,pinned,failed&after=" + url.QueryEscape(middle.Format(time.RFC3339Nano)), func(r result) bool { return r.Created.After(middle) }},
		{"cid=" + all[3].Pin.Cid + "," + all[900].Pin.Cid + "," + cidOf(-1).String() + "&status=queued,pinning,pinned,failed",
			func(r result) bool { return r.Pin.Cid == all[3].Pin.Cid || r.Pin.Cid == all[900].Pin.Cid }},
	} {
		var got listing
		w := do(t, f, "GET", "/pins?"+tc.query, "", &got)
		var want []result
		for _, r := range all {
			if tc.want(r) {
				want = append(want, r)
			}
		}
		limit := 10
		if _, text, ok := strings.Cut(tc.query, "limit="); ok {
			_, _ = fmt.Sscan(text, &limit)
		}
		// What no index finds is not counted to its end.
		uncounted := strings.Contains(tc.query, "match=") && len(want) > limit && got.Count > limit && got.Count <= len(want)
		if w.Code != http.StatusOK || got.Count != len(want) && !uncounted || len(got.Results) != min(limit, len(want)) {
			t.Errorf("%s: %d, %d of %d, want %d", tc.query, w.Code, len(got.Results), got.Count, len(want))
			continue
		}
		for i, r := range got.Results {
			if r.Pin.Cid != want[i].Pin.Cid || r.Status != want[i].Status || len(r.Delegates) == 0 {
				t.Errorf("%s: result %d is %+v, want %+v", tc.query, i, r, want[i])
				break
			}
		}
	}
	// What the pinset has indexes for is asked of these, also for statuses.
	f.filters, f.asked = nil, nil
	at := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
	do(t, f, "GET", "/pins?name=Pin+3&meta="+url.QueryEscape(`{"app":"1"}`)+"&before="+at.Format(time.RFC3339)+"&after=2026-11-20T00:00:01Z", "", nil)
	wantFilter := api.PinFilter{Types: []api.PinType{api.TypeData}, Name: "Pin 3", Meta: map[string]string{"app": "1"}, CreatedBefore: at, CreatedAfter: at.AddDate(0, 0, -1)}
	if len(f.filters) != 1 || !reflect.DeepEqual(f.filters[0], wantFilter) {
		t.Errorf("the pinset was asked for %+v, want %+v", f.filters, wantFilter)
	}
	// What the pages of a client hold together is everything, once.
	seen, before := map[string]bool{}, then.Add(time.Hour)
	for pages := 0; ; pages++ {
		var page listing
		do(t, f, "GET", "/pins?limit=100&status=queued,pinning,pinned,failed&before="+url.QueryEscape(before.Format(time.RFC3339Nano)), "", &page)
		for _, r := range page.Results {
			if seen[r.RequestID] {
				t.Fatalf("%s came twice", r.RequestID)
			}
			seen[r.RequestID] = true
			before = r.Created
		}
		if page.Count == len(page.Results) {
			break
		}
	}
	if len(seen) != len(all) {
		t.Errorf("paged through %d of %d", len(seen), len(all))
	}
	f.pins = nil
	var none listing
	if w := do(t, f, "GET", "/pins", "", &none); w.Body.String() != `{"count":0,"results":[]}`+"\n" {
		t.Errorf("nothing: %s", w.Body)
	}
}

// A list costs what it returns, however many pins there are: when most of them
// are pinned, and for those that are not when few are not.
func TestListCost(t *testing.T) {
	f := newFake()
	for i := range 6000 {
		c := cidOf(i)
		f.pins[c] = api.Pin{Cid: c, Type: api.TypeData, Allocations: []peer.ID{peerA, peerB}, Timestamp: then.Add(time.Duration(i/10) * time.Second),
			PinOptions: api.PinOptions{ReplicationFactorMin: 2, Name: fmt.Sprintf("Pin %d", i), Metadata: map[string]string{"app": "x"}}}
		if i%1000 == 999 {
			f.statuses[c] = []api.TrackerStatus{api.StatusPinError, api.StatusPinError}
		}
	}
	for _, tc := range []struct {
		query         string
		count         int // -1: more than the results
		looked, asked int // pins of the pinset, and statuses, at the most
	}{
		{"", 5994, 80, 70},
		{"limit=5", 5994, 80, 70},
		{"limit=5&status=queued,pinning,pinned,failed", 6000, 80, 5},
		{"status=pinned,failed", 6000, 80, 70},
		{"limit=1&status=pinned", 5994, 80, 70}, // what 'ipfs pin remote service ls --stat' asks
		{"limit=1&status=failed", 6, 0, 6},
		{"limit=1&status=queued", 0, 0, 6},
		{"name=Pin&match=partial", -1, 80, 70},
		{"name=pin+59&match=ipartial", -1, 80, 70},
		{"name=pin+5990&match=iexact", 1, 4200, 2}, // by looking at all, once that is the better way
		{"name=n+1&match=partial&limit=1", -1, 4200, 300},
		{"name=Pin+5990", 1, 0, 1},
		{"meta=" + url.QueryEscape(`{"app":"x"}`), 5994, 80, 70},
		{"before=" + url.QueryEscape(then.Add(300*time.Second).Format(time.RFC3339)), 2997, 80, 70},
	} {
		f.asked, f.looked = nil, 0
		var got listing
		do(t, f, "GET", "/pins?"+tc.query, "", &got)
		asked := 0
		for _, q := range f.asked {
			asked += len(q.Cids)
		}
		if got.Count != tc.count && (tc.count >= 0 || got.Count <= len(got.Results)) || f.looked > tc.looked || asked > tc.asked {
			t.Errorf("%s: %d of %d; %d pins were looked at and %d statuses asked for, want %d of them, %d and %d at the most",
				tc.query, len(got.Results), got.Count, f.looked, asked, tc.count, tc.looked, tc.asked)
		}
	}
}
