package client_test

import (
	"iter"
	"net/http/httptest"
	"slices"
	"testing"

	"holdfast/api"
	"holdfast/client"
	"holdfast/restapi"
	"holdfast/restapi/fake"
)

// Reads ask for what the client was told that they must show, of the next peer
// when one is behind; writes do not.
func TestReading(t *testing.T) {
	var asked []api.ReadPoint
	var addrs []string
	for _, applied := range []uint64{5, 9} {
		service := &fake.Service{
			OnReadAt: func(at api.ReadPoint) (uint64, error) {
				asked = append(asked, at)
				if at.Index > applied {
					return 0, api.Errorf(api.CodeUnavailable, "at %d", applied)
				}
				return applied, nil
			},
			OnPin: func(r api.PinRequest) (api.PinResult, error) {
				return api.PinResult{Pin: api.Pin{Cid: r.Cid}, Index: 9}, nil
			},
			OnAllocation:  func(c api.Cid) (api.Pin, error) { return api.Pin{Cid: c, Revision: applied}, nil },
			OnAllocations: func(api.PinFilter) iter.Seq2[api.Pin, error] { return fake.Yields(nil, api.Pin{Cid: cidA}) },
		}
		server := httptest.NewServer(restapi.New(service, service, restapi.Config{}))
		defer server.Close()
		addrs = append(addrs, server.URL)
	}
	c := must(client.New(client.Config{Addrs: addrs, Read: api.ReadPoint{Consistent: true}}))
	if pin, err := c.Allocation(t.Context(), cidA); err != nil || pin.Revision != 5 {
		t.Errorf("%+v, %v", pin, err)
	}
	result, err := c.Pin(t.Context(), cidA, api.PinOptions{})
	if err != nil {
		t.Fatal(err)
	}
	after := c.Reading(api.ReadPoint{Index: result.Index})
	if pin, err := after.Allocation(t.Context(), cidA); err != nil || pin.Revision != 9 {
		t.Errorf("%+v, %v", pin, err)
	}
	if pins := collect(t, after.Allocations(t.Context(), api.PinFilter{Limit: 3})); len(pins) != 1 {
		t.Errorf("%d pins", len(pins))
	}
	if want := []api.ReadPoint{{Consistent: true}, {Index: 9}, {Index: 9}, {Index: 9}}; !slices.Equal(asked, want) {
		t.Errorf("asked %+v, want %+v", asked, want)
	}
	behind := c.Reading(api.ReadPoint{Index: 10})
	behind.RetryAtOnce()
	if _, err := behind.Allocation(t.Context(), cidA); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("an index that nobody has: %v", err)
	}
}
