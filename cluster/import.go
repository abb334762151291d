package cluster

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/allocator"
	"holdfast/api"
)

// planImport turns a line of an export into the pin that shall be stored.
func (c *Cluster) planImport(ctx context.Context, line api.BulkLine, current api.Pin, now time.Time, place placeFunc) (api.Pin, error) {
	options := line.Options
	options.UserAllocations = nil
	if err := c.complete(&options, now); err != nil {
		return api.Pin{}, err
	}
	if current.Revision != 0 && current.Mode == api.ModeRecursive && options.Mode == api.ModeDirect {
		return api.Pin{}, api.Errorf(api.CodeInvalid, "%s is pinned recursively; unpin it first to import it as a direct pin", line.Cid)
	}
	pin := api.Pin{PinOptions: options, Cid: line.Cid, Type: api.TypeData, MaxDepth: options.Mode.MaxDepth(),
		Timestamp: line.Import.Timestamp.UTC().Truncate(time.Second)}
	if pin.Timestamp.IsZero() {
		pin.Timestamp = now.UTC().Truncate(time.Second)
	}
	if pin.IsEverywhere() {
		return pin, nil
	}
	var err error
	pin.Allocations, err = c.placeImport(ctx, pin, line.Import.Allocations, current.Allocations, place)
	return pin, err
}

// placeImport keeps the allocations that an export names, as far as they are
// members here, then the present ones, and adds what is missing. A cluster that
// is smaller than the pin's minimum holds as many replicas as it has peers:
// repair adds the others when peers join.
func (c *Cluster) placeImport(ctx context.Context, pin api.Pin, named, present []peer.ID, place placeFunc) ([]peer.ID, error) {
	members := c.memberIDs()
	lo, hi := min(pin.ReplicationFactorMin, max(len(members), 1)), pin.ReplicationFactorMax
	have := onlyOf(nil, named, members)
	if len(have) < len(named) || len(have) < lo {
		have = onlyOf(have, present, members)
	}
	if lo <= len(have) && len(have) <= hi && len(have) >= min(len(named), hi) {
		return have, nil
	}
	decision, err := place(ctx, allocator.Request{Cid: pin.Cid.Cid, Min: lo, Max: hi, Have: have})
	return decision.Allocations, err
}

// onlyOf appends those of ids that are members, each once.
func onlyOf(to, ids, members []peer.ID) []peer.ID {
	for _, id := range ids {
		if slices.Contains(members, id) && !slices.Contains(to, id) {
			to = append(to, id)
		}
	}
	return to
}

// samePin says whether two pins are equal but for their revision.
func samePin(a, b api.Pin) bool {
	return a.ReplicationFactorMin == b.ReplicationFactorMin && a.ReplicationFactorMax == b.ReplicationFactorMax &&
		a.Name == b.Name && a.Mode == b.Mode && a.ShardSize == b.ShardSize && a.Type == b.Type &&
		a.ExpireAt.Equal(b.ExpireAt) && a.Timestamp.Equal(b.Timestamp) && a.PinUpdate == b.PinUpdate &&
		maps.Equal(a.Metadata, b.Metadata) && slices.Equal(a.Allocations, b.Allocations) &&
		slices.EqualFunc(a.Origins, b.Origins, func(x, y multiaddr.Multiaddr) bool { return x.Equal(y) })
}
