package daemon

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
	"holdfast/restapi/pinsvc"
	"holdfast/state"
)

// allPinned is a cluster that has pinned everything.
type allPinned struct {
	pinsvc.Service
	state *state.Pinset
}

func (p allPinned) Allocation(_ context.Context, c api.Cid) (api.Pin, error) {
	pin, ok, err := p.state.Get(c.Cid)
	if err == nil && !ok {
		err = api.Errorf(api.CodeNotFound, "not pinned")
	}
	return pin, err
}

func (p allPinned) Allocations(ctx context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	return p.state.Select(ctx, filter)
}

func (p allPinned) Newest(ctx context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	return p.state.Newest(ctx, filter)
}

func (p allPinned) Count(ctx context.Context, filter api.PinFilter) (uint64, error) {
	return p.state.Count(ctx, filter)
}

func (p allPinned) StatusAll(ctx context.Context, q api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
	return func(yield func(api.GlobalPinInfo, error) bool) {
		show := func(pin api.Pin) bool {
			info := pin.GlobalInfo()
			for _, holder := range pin.Allocations {
				info.PeerMap[holder.String()] = api.PinInfoShort{Status: api.StatusPinned}
			}
			return yield(info, nil)
		}
		if !api.StatusPinned.Match(q.Filter) {
			return // they have indexes by status
		}
		for _, c := range q.Cids {
			if pin, err := p.Allocation(ctx, c); err == nil && !show(pin) {
				return
			}
		}
		if len(q.Cids) > 0 {
			return
		}
		for pin, err := range p.state.Select(ctx, q.Pins) {
			if err != nil || !show(pin) {
				return
			}
		}
	}
}

// BenchmarkPinningServiceList lists a pinset on disk as clients of the Pinning
// Service API do; with -listed, as of that many pins.
func BenchmarkPinningServiceList(b *testing.B) {
	p, err := state.Open(vfs.Default, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	fillForListing(b, p)
	server := httptest.NewServer(pinsvc.New(allPinned{state: p}, pinsvc.Config{}))
	defer server.Close()
	newest := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC).Add(time.Duration(*listed/2000) * time.Second).Format(time.RFC3339)
	for _, query := range []string{"", "limit=1000", "status=failed", "before=" + newest, "name=s/9&match=partial", "name=s/2&match=partial", "name=BACKUPS/77&match=iexact",
		"meta=%7B%22app%22:%22backup%22%7D", "name=backups/77"} {
		b.Run(query, func(b *testing.B) {
			for b.Loop() {
				resp, err := http.Get(server.URL + "/pins?" + query)
				if err != nil {
					b.Fatal(err)
				}
				if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
					b.Fatal(resp.Status, err, string(body))
				}
				resp.Body.Close()
			}
		})
	}
}
