package pinsvc

import (
	"context"
	"iter"

	"holdfast/api"
)

// Service is what the API asks of the cluster. Allocations and StatusAll yield
// in the order of the CIDs' bytes.
type Service interface {
	Pinset
	Latest
	Statuses
}

// Pinset reads and changes what is to be kept.
type Pinset interface {
	Pin(context.Context, api.PinRequest) (api.PinResult, error)
	Unpin(context.Context, api.UnpinRequest) (api.PinResult, error)
	Allocation(context.Context, api.Cid) (api.Pin, error)
	Allocations(context.Context, api.PinFilter) iter.Seq2[api.Pin, error]
}

// Latest tells of the latest pins, and how many there are.
type Latest interface {
	// Newest yields the latest Timestamp first.
	Newest(context.Context, api.PinFilter) iter.Seq2[api.Pin, error]
	Count(context.Context, api.PinFilter) (uint64, error)
}

// Statuses tells how far the peers got.
type Statuses interface {
	Status(ctx context.Context, c api.Cid, local bool) (api.GlobalPinInfo, error)
	StatusAll(context.Context, api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error]
}
