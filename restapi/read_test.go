package restapi_test

import (
	"iter"
	"strings"
	"testing"

	"holdfast/api"
	"holdfast/restapi/fake"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Every read says up to which index it shows everything, and waits for what it
// is asked for.
func TestReadPoints(t *testing.T) {
	var asked []api.ReadPoint
	service := &fake.Service{
		OnReadAt: func(at api.ReadPoint) (uint64, error) {
			asked = append(asked, at)
			if at.Index > 100 {
				return 0, api.Errorf(api.CodeUnavailable, "not there yet")
			}
			return 42, nil
		},
		OnID:          func() (api.ID, error) { return api.ID{ID: peerA}, nil },
		OnPeers:       func() iter.Seq2[api.ID, error] { return fake.Yields(nil, api.ID{ID: peerA}) },
		OnAllocation:  func(api.Cid) (api.Pin, error) { return api.Pin{}, api.Errorf(api.CodeNotFound, "not pinned") },
		OnAllocations: func(api.PinFilter) iter.Seq2[api.Pin, error] { return fake.Yields(nil, api.Pin{Cid: cidA}) },
		OnStatus: func(c api.Cid, _ bool) (api.GlobalPinInfo, error) {
			return api.GlobalPinInfo{Cid: c, PeerMap: map[string]api.PinInfoShort{peer.ID(peerA).String(): {}}}, nil
		},
		OnStatusAll: func(api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
			return fake.Yields(nil, api.GlobalPinInfo{Cid: cidA})
		},
	}
	for _, target := range []string{"/id", "/peers", "/allocations", "/allocations/" + cidA.String(), "/pins", "/pins/" + cidA.String()} {
		for query, want := range map[string]api.ReadPoint{"": {}, "?consistent=true": {Consistent: true},
			"?wait-index=7&consistent=true": {Consistent: true, Index: 7}, "?wait-index=7&consistent=false": {Index: 7}} {
			asked = nil
			resp, body := ask(t, service, "GET", target+query, "", "")
			if resp.Header.Get("X-Cluster-Index") != "42" || len(asked) != 1 || asked[0] != want {
				t.Errorf("GET %s%s: index %q, asked %+v: %s", target, query, resp.Header.Get("X-Cluster-Index"), asked, body)
			}
			if wantStatus := map[bool]int{true: 404, false: 200}[strings.HasPrefix(target, "/allocations/")]; resp.StatusCode != wantStatus {
				t.Errorf("GET %s%s: %s", target, query, resp.Status)
			}
		}
		resp, body := ask(t, service, "GET", target+"?wait-index=101", "", "")
		if resp.StatusCode != 503 || !strings.Contains(body, `"reason":"unavailable"`) || resp.Header.Get("X-Cluster-Index") != "" {
			t.Errorf("GET %s of a later index: %s %s", target, resp.Status, body)
		}
		for _, query := range []string{"?consistent=perhaps", "?wait-index=-1", "?wait-index=x"} {
			if resp, body := ask(t, service, "GET", target+query, "", ""); resp.StatusCode != 400 {
				t.Errorf("GET %s%s: %s %s", target, query, resp.Status, body)
			}
		}
	}
}
