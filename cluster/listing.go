package cluster

import (
	"context"
	"iter"
	"maps"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// statusBatch is how many pins the peers are asked about at once.
const statusBatch = 256

// Count is the number of pins that a filter selects; After and Limit are not
// looked at.
func (c *Cluster) Count(ctx context.Context, filter api.PinFilter) (uint64, error) {
	c.catchUp(ctx)
	return c.state.Count(ctx, filter)
}

// Newest streams the pins that a filter selects, the latest first; its After is
// not looked at. It is meant for conditions that most pins meet, and for times.
func (c *Cluster) Newest(ctx context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	return func(yield func(api.Pin, error) bool) {
		c.catchUp(ctx)
		for pin, err := range c.state.Newest(ctx, filter) {
			if err == nil {
				err = ctx.Err()
			}
			if !yield(pin, err) || err != nil {
				return
			}
		}
	}
}

// selects says whether a CID is pinned and meets the conditions of a filter;
// without conditions it need not be pinned.
func (c *Cluster) selects(filter api.PinFilter, id api.Cid) (bool, error) {
	if filter.SelectsAll() {
		return true, nil
	}
	pin, exists, err := c.state.Get(id.Cid)
	return exists && filter.Selects(pin), err
}

// statusSelected streams the statuses of the pins that the pinset selects.
// The peers are asked about these alone, some at a time, so that it costs what
// it returns.
func (c *Cluster) statusSelected(ctx context.Context, q api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
	return func(yield func(api.GlobalPinInfo, error) bool) {
		c.catchUp(ctx)
		filter := q.Pins
		filter.After, filter.Limit = q.After, 0
		left := q.Limit
		size := func() int {
			if q.Filter == api.StatusUndefined && left > 0 {
				return min(left, statusBatch)
			}
			return statusBatch
		}
		show := func(pins []api.Pin) bool {
			for _, info := range c.statusOf(ctx, pins, q) {
				left--
				if !yield(info, nil) || left == 0 {
					return false
				}
			}
			return true
		}
		var batch []api.Pin
		for pin, err := range c.state.Select(ctx, filter) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(api.GlobalPinInfo{}, err)
				return
			}
			if batch = append(batch, pin); len(batch) >= size() {
				if !show(batch) {
					return
				}
				batch = batch[:0]
			}
		}
		show(batch)
	}
}

// statusOf asks every peer about some pins, in parallel and with one deadline,
// and leaves out what the query's filter does not select.
func (c *Cluster) statusOf(ctx context.Context, pins []api.Pin, q api.StatusQuery) []api.GlobalPinInfo {
	if len(pins) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.PeerTimeout)
	defer cancel()
	members := []peer.ID{c.cfg.Self}
	if !q.Local {
		members = c.memberIDs()
	}
	told := make([]map[string]api.PinInfoShort, len(members))
	failed := make([]error, len(members))
	var asked sync.WaitGroup
	for i, member := range members {
		asked.Go(func() { told[i], failed[i] = c.askAbout(ctx, member, pins) })
	}
	asked.Wait()
	out := make([]api.GlobalPinInfo, 0, len(pins))
	for _, pin := range pins {
		global := pin.GlobalInfo()
		for i, member := range members {
			short, known := told[i][pin.Cid.KeyString()]
			switch {
			case known:
			case !pin.AllocatedTo(member):
				short = c.about(member, api.StatusRemote, pin.Timestamp, "")
			case failed[i] != nil:
				short = c.about(member, api.StatusClusterError, time.Now(), failed[i].Error())
			default: // committed, and not seen by its tracker yet
				short = c.about(member, api.StatusPinQueued, pin.Timestamp, "")
			}
			global.PeerMap[member.String()] = short
		}
		maps.DeleteFunc(global.PeerMap, func(_ string, short api.PinInfoShort) bool { return !short.Status.Match(q.Filter) })
		if len(global.PeerMap) > 0 {
			out = append(out, global)
		}
	}
	return out
}

// askAbout returns what one peer's tracker knows of some pins, by the keys of
// their CIDs; with an error, what it told before.
func (c *Cluster) askAbout(ctx context.Context, member peer.ID, pins []api.Pin) (map[string]api.PinInfoShort, error) {
	query := api.StatusQuery{}
	for _, pin := range pins {
		query.Cids = append(query.Cids, pin.Cid)
	}
	out := map[string]api.PinInfoShort{}
	collect := func(items iter.Seq2[api.PinInfo, error]) error {
		for info, err := range items {
			if err != nil {
				return err
			}
			out[info.Cid.KeyString()] = info.PinInfoShort
		}
		return nil
	}
	if member == c.cfg.Self {
		return out, collect(c.LocalStatusAll(ctx, query))
	}
	err := c.ask(ctx, member, func() error { return collect(c.remote.StatusAll(ctx, member, query)) })
	return out, err
}

// enoughChanges are read at once for a follower of the change feed.
const enoughChanges = 1000

// Changes streams what changed in the pinset after a log index, each CID with
// what stands there now; with follow, it waits for more until ctx ends. A
// reader that was cut off goes on from the last index of which it has seen a
// later one. Errors: gone, when the feed does not reach back so far;
// unavailable, when this peer has not come so far yet.
func (c *Cluster) Changes(ctx context.Context, since uint64, follow bool) iter.Seq2[api.PinChange, error] {
	return func(yield func(api.PinChange, error) bool) {
		c.catchUp(ctx)
		for {
			changed := c.state.Changed()
			changes, err := c.state.SomeChanges(since, enoughChanges)
			if err != nil {
				yield(api.PinChange{}, err)
				return
			}
			for _, change := range changes {
				if item, err := c.now(ctx, change); !yield(item, err) || err != nil {
					return
				}
				since = change.Index
			}
			if len(changes) > 0 {
				continue
			}
			if !follow {
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				yield(api.PinChange{}, ctx.Err())
				return
			}
		}
	}
}

// now is a change with what stands in the pinset at this moment.
func (c *Cluster) now(ctx context.Context, change api.Change) (api.PinChange, error) {
	pin, exists, err := c.state.Get(change.Cid.Cid)
	if err == nil {
		err = ctx.Err()
	}
	out := api.PinChange{Index: change.Index, Cid: change.Cid, Removed: !exists}
	if exists {
		out.Pin = &pin
	}
	return out, err
}
