package cluster

import (
	"context"

	"holdfast/api"
)

// AsLeader answers requests that other peers have forwarded to this one. It
// never forwards them again: a peer that is not the leader says no_leader, and
// who asked looks for the leader anew.
func (c *Cluster) AsLeader() Leader { return Leader{c} }

// Leader is the leader's part of the use cases.
type Leader struct{ c *Cluster }

// Pin decides and stores a pin.
func (l Leader) Pin(ctx context.Context, req api.PinRequest) (api.PinResult, error) {
	if err := req.Options.Validate(); err != nil {
		return api.PinResult{}, err
	}
	return l.c.decidePin(ctx, req)
}

// Unpin removes a pin.
func (l Leader) Unpin(ctx context.Context, req api.UnpinRequest) (api.PinResult, error) {
	return l.c.decideUnpin(ctx, req)
}

// Bulk carries out lines of a bulk write.
func (l Leader) Bulk(ctx context.Context, lines []api.BulkLine) ([]api.BulkResult, error) {
	if len(lines) > api.MaxBulkChunk {
		return nil, api.Errorf(api.CodeTooLarge, "%d lines at once; at most %d are decided together", len(lines), api.MaxBulkChunk)
	}
	for _, line := range lines {
		if err := line.Options.Validate(); err != nil {
			return nil, err
		}
	}
	return l.c.decideBulk(ctx, lines)
}

// Allocate says where the blocks of an add shall go.
func (l Leader) Allocate(ctx context.Context, options api.PinOptions) (api.Placement, error) {
	if err := options.Validate(); err != nil {
		return api.Placement{}, err
	}
	return l.c.decidePlacement(ctx, options)
}

// Decline moves a replica away from a peer that cannot hold it.
func (l Leader) Decline(ctx context.Context, req api.DeclineRequest) error {
	return l.c.decideDecline(ctx, req)
}

// ReadIndex is the index that a consistent read must reach.
func (l Leader) ReadIndex(ctx context.Context) (uint64, error) { return l.c.log.ReadIndex(ctx) }
