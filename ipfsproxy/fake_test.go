package ipfsproxy

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// cluster is a Service in memory.
type cluster struct {
	resolve func(context.Context, string) (api.Cid, error)
	fail    error // of Pin
	broken  error // of Allocations, after the last
	stat    api.RepoStat
	gc      api.GlobalRepoGC

	behind bool // this peer shows no pins until it caught up

	mu       sync.Mutex
	pins     map[cid.Cid]api.Pin
	requests []api.PinRequest
	leases   int
}

func newCluster() *cluster { return &cluster{pins: make(map[cid.Cid]api.Pin)} }

func (c *cluster) Pin(_ context.Context, r api.PinRequest) (api.PinResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return api.PinResult{}, c.fail
	}
	c.requests = append(c.requests, r)
	pin := api.Pin{PinOptions: r.Options, Cid: r.Cid, Type: api.TypeData}
	c.pins[r.Cid.Cid] = pin
	return api.PinResult{Pin: pin}, nil
}

func (c *cluster) Unpin(_ context.Context, r api.UnpinRequest) (api.PinResult, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pin, ok := c.pins[r.Cid.Cid]
	if !ok {
		return api.PinResult{}, api.Errorf(api.CodeNotFound, "%s is not in the pinset", r.Cid)
	}
	delete(c.pins, r.Cid.Cid)
	return api.PinResult{Pin: pin}, nil
}

func (c *cluster) Resolve(ctx context.Context, path string) (api.Cid, error) {
	if c.resolve == nil {
		return api.Cid{}, api.Errorf(api.CodeInvalid, "%q is not a path", path)
	}
	return c.resolve(ctx, path)
}

func (c *cluster) ReadAt(_ context.Context, at api.ReadPoint) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.Consistent {
		c.behind = false
	}
	return 1, nil
}

func (c *cluster) Allocation(_ context.Context, id api.Cid) (api.Pin, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	pin, ok := c.pins[id.Cid]
	if !ok || c.behind {
		return api.Pin{}, api.Errorf(api.CodeNotFound, "%s is not in the pinset", id)
	}
	return pin, nil
}

func (c *cluster) Allocations(context.Context, api.PinFilter) iter.Seq2[api.Pin, error] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.behind {
		return func(func(api.Pin, error) bool) {}
	}
	pins := slices.SortedFunc(maps.Values(c.pins), func(a, b api.Pin) int { return bytes.Compare(a.Cid.Bytes(), b.Cid.Bytes()) })
	return func(yield func(api.Pin, error) bool) {
		for _, pin := range pins {
			if !yield(pin, nil) {
				return
			}
		}
		if c.broken != nil {
			yield(api.Pin{}, c.broken)
		}
	}
}

func (c *cluster) RepoStat(context.Context) (api.RepoStat, error) { return c.stat, nil }

func (c *cluster) RepoGC(context.Context, bool) (api.GlobalRepoGC, error) { return c.gc, nil }

func (c *cluster) lease(context.Context) (func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leases++
	return func() { c.mu.Lock(); defer c.mu.Unlock(); c.leases-- }, nil
}
