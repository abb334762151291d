package restapi_test

import (
	"bufio"
	"context"
	"iter"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/restapi"
	"holdfast/restapi/fake"
)

// TestPinFilters: what selects pins reaches the service, on both lists.
func TestPinFilters(t *testing.T) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 500_000_000, time.UTC)
	for query, want := range map[string]api.PinFilter{
		"":                       {},
		"name=&meta=x&metal-a=b": {},
		"name=a%20b":             {Name: "a b"},
		"name-prefix=%00%ff":     {NamePrefix: "\x00\xff"},
		"meta-k=v&meta-a%3Db=":   {Meta: map[string]string{"k": "v", "a=b": ""}},
		"peer=" + peerB.String(): {Peer: peerB},
		"type=pin,meta-pin":      {Types: []api.PinType{api.TypeData, api.TypeMeta}},
		"created-after=2026-11-21T11:00:00.5%2B01:00&created-before=1800000000": {CreatedAfter: at, CreatedBefore: time.Unix(1_800_000_000, 0).UTC()},
		"created-after=-5": {CreatedAfter: time.Unix(-5, 0).UTC()},
	} {
		var got api.PinFilter
		service := &fake.Service{
			OnAllocations: func(f api.PinFilter) iter.Seq2[api.Pin, error] { got = f; return fake.Yields[api.Pin](nil) },
			OnStatusAll: func(q api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
				got = q.Pins
				return fake.Yields[api.GlobalPinInfo](nil)
			},
		}
		for _, path := range []string{"/allocations?", "/pins?"} {
			got = api.PinFilter{}
			resp, body := ask(t, service, "GET", path+query, "", "")
			got.CreatedAfter, got.CreatedBefore = utc(got.CreatedAfter), utc(got.CreatedBefore)
			if resp.StatusCode != 204 || !reflect.DeepEqual(got, want) {
				t.Errorf("%s%s: %d %s\ngot  %+v\nwant %+v", path, query, resp.StatusCode, body, got, want)
			}
		}
	}
}

func utc(at time.Time) time.Time {
	if at.IsZero() {
		return time.Time{}
	}
	return at.UTC()
}

func TestWrongPinFilters(t *testing.T) {
	service := &fake.Service{} // a call would panic
	for query, has := range map[string]string{
		"created-after=yesterday":             `parameter created-after invalid: \"yesterday\" is not a time`,
		"created-before=99999999999999":       `parameter created-before invalid`,
		"created-before=0001-01-01T00:00:00Z": `parameter created-before invalid`,
		"created-before=9223372036854775807":  `parameter created-before invalid`,
		"meta-=v":                             `parameter meta- invalid: the key is missing`,
		"meta-a=1&meta-a=2":                   `parameter meta-a invalid: it is given 2 times`,
		"type=pins":                           `parameter type invalid: unknown pin type`,
		"peer=me":                             `parameter peer invalid`,
		"after=x":                             `parameter after invalid`,
		"limit=-1":                            `parameter limit invalid`,
		"count=maybe":                         `parameter count invalid`,
	} {
		for _, path := range []string{"/allocations?", "/pins?"} {
			if resp, body := ask(t, service, "GET", path+query, "", ""); resp.StatusCode != 400 || !strings.Contains(body, has) {
				t.Errorf("%s%s: %d %s", path, query, resp.StatusCode, body)
			}
		}
	}
	if resp, body := ask(t, service, "GET", "/allocations?type=pin&filter=pin", "", ""); resp.StatusCode != 400 {
		t.Errorf("type and filter: %d %s", resp.StatusCode, body)
	}
}

// TestCounts: HEAD and count=true tell how many there are and list nothing.
func TestCounts(t *testing.T) {
	n := uint64(0)
	var asked api.PinFilter
	service := &fake.Service{OnCount: func(f api.PinFilter) (uint64, error) { asked = f; return n, nil }}
	for _, path := range []string{"/allocations", "/pins"} {
		for _, n = range []uint64{0, 3} {
			resp, body := ask(t, service, "GET", path+"?count=true&name=x&after="+cidA.String()+"&limit=1", "", "")
			if want := `{"count":` + string('0'+byte(n)) + "}\n"; resp.StatusCode != 200 || body != want || asked.Name != "x" {
				t.Errorf("GET %s: %d %s", path, resp.StatusCode, body)
			}
			resp, body = ask(t, service, "HEAD", path+"?name=y", "", "")
			status := map[bool]int{true: 204, false: 200}[n == 0]
			if resp.StatusCode != status || body != "" || resp.Header.Get("X-Total-Count") != string('0'+byte(n)) || asked.Name != "y" {
				t.Errorf("HEAD %s of %d: %d %v", path, n, resp.StatusCode, resp.Header)
			}
		}
	}
	// Statuses are counted one by one, whatever the page.
	var query api.StatusQuery
	service = &fake.Service{OnStatusAll: func(q api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
		query = q
		return fake.Yields(nil, api.GlobalPinInfo{}, api.GlobalPinInfo{})
	}}
	resp, body := ask(t, service, "GET", "/pins?count=true&filter=pinned&name=x&limit=1&after="+cidA.String(), "", "")
	if resp.StatusCode != 200 || body != "{\"count\":2}\n" || query.Limit != 0 || query.After.Defined() || query.Pins.Name != "x" {
		t.Errorf("%d %s, asked %+v", resp.StatusCode, body, query)
	}
	service.OnCount = func(api.PinFilter) (uint64, error) { return 0, api.Errorf(api.CodeUnavailable, "closed") }
	if resp, _ := ask(t, service, "GET", "/allocations?count=true", "", ""); resp.StatusCode != 503 {
		t.Errorf("an error: %d", resp.StatusCode)
	}
}

func TestChanges(t *testing.T) {
	pin := fullPin()
	service := &fake.Service{OnChanges: func(_ context.Context, since uint64, follow bool) iter.Seq2[api.PinChange, error] {
		switch {
		case follow:
			t.Error("follows")
		case since == 1:
			return fake.Yields[api.PinChange](api.Errorf(api.CodeGone, "not kept; go on with 9"))
		case since == 9:
			return fake.Yields[api.PinChange](nil)
		}
		return fake.Yields(nil, api.PinChange{Index: 7, Cid: cidA, Removed: true}, api.PinChange{Index: 8, Cid: pin.Cid, Pin: &pin})
	}}
	resp, body := ask(t, service, "GET", "/changes?since=6", "", "")
	_, pinBody := ask(t, &fake.Service{OnAllocation: func(api.Cid) (api.Pin, error) { return pin, nil }}, "GET", "/allocations/"+pin.Cid.String(), "", "")
	want := `{"index":7,"cid":"` + cidA.String() + `","pin":null,"removed":true}` + "\n" +
		`{"index":8,"cid":"` + pin.Cid.String() + `","pin":` + strings.TrimSpace(pinBody) + "}\n"
	if resp.StatusCode != 200 || body != want {
		t.Errorf("%d\ngot  %s\nwant %s", resp.StatusCode, body, want)
	}
	for query, status := range map[string]int{"since=1": 410, "since=9": 204, "": 400, "since=": 400, "since=-1": 400, "since=1&follow=x": 400} {
		if resp, body := ask(t, service, "GET", "/changes?"+query, "", ""); resp.StatusCode != status {
			t.Errorf("%s: %d %s", query, resp.StatusCode, body)
		}
	}
}

// TestFollowChanges: a follower gets the header before there is anything to
// tell, then what comes, and an end when the peer stops.
func TestFollowChanges(t *testing.T) {
	come, stopping := make(chan api.PinChange), make(chan struct{})
	service := &fake.Service{OnChanges: func(ctx context.Context, since uint64, follow bool) iter.Seq2[api.PinChange, error] {
		switch {
		case since == 1:
			return fake.Yields[api.PinChange](api.Errorf(api.CodeGone, "not kept"))
		case !follow && since == 3:
			return fake.Yields(nil, api.PinChange{Index: 4, Cid: cidA, Removed: true})
		case !follow:
			return fake.Yields[api.PinChange](nil)
		case since != 4 && since != 9:
			t.Errorf("follows from %d", since)
		}
		return func(yield func(api.PinChange, error) bool) {
			for {
				select {
				case c := <-come:
					if !yield(c, nil) {
						return
					}
				case <-ctx.Done():
					yield(api.PinChange{}, ctx.Err())
					return
				}
			}
		}
	}}
	server := httptest.NewServer(restapi.New(service, service, restapi.Config{Stopping: stopping}))
	defer server.Close()
	open := func(since string) *http.Response {
		req, err := http.NewRequest(http.MethodGet, server.URL+"/changes?follow=true&since="+since, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("TE", "trailers")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	if resp := open("1"); resp.StatusCode != 410 {
		t.Errorf("a feed that does not reach back: %d", resp.StatusCode)
	}
	resp := open("9") // returns although nothing has changed
	come <- api.PinChange{Index: 10, Cid: cidB, Removed: true}
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), `{"index":10,`) {
		t.Errorf("%d %s", resp.StatusCode, lines.Text())
	}
	second := bufio.NewScanner(open("3").Body)
	if !second.Scan() || !strings.HasPrefix(second.Text(), `{"index":4,`) {
		t.Error(second.Text())
	}
	close(stopping)
	if lines.Scan() || second.Scan() || resp.Trailer.Get("X-Stream-Error-Code") != "unavailable" {
		t.Errorf("%q, %q, trailer %v", lines.Text(), second.Text(), resp.Trailer)
	}
}
