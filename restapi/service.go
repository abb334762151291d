package restapi

import (
	"context"
	"iter"
	"mime/multipart"

	"holdfast/api"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Service is what the API asks of the cluster. Errors with an api code reach
// the client with that code; all others are internal.
type Service interface {
	Pinset
	Listing
	Statuses
	Cluster
}

// Pinset reads and changes what is to be kept.
type Pinset interface {
	Pin(context.Context, api.PinRequest) (api.PinResult, error)
	Unpin(context.Context, api.UnpinRequest) (api.PinResult, error)
	// Bulk carries lines out and yields a result for each, in their order.
	Bulk(context.Context, iter.Seq[api.BulkLine]) iter.Seq[api.BulkResult]
	// Resolve finds the CID of a path that begins with /ipfs/, /ipns/ or /ipld/.
	Resolve(ctx context.Context, path string) (api.Cid, error)
	Allocation(context.Context, api.Cid) (api.Pin, error)
	Allocations(context.Context, api.PinFilter) iter.Seq2[api.Pin, error]
}

// Listing counts the pinset and tells how it changes.
type Listing interface {
	// Count is the number of pins that a filter selects, whatever its After and
	// Limit.
	Count(context.Context, api.PinFilter) (uint64, error)
	// Changes yields what changed after a log index; with follow, until its
	// context ends.
	Changes(ctx context.Context, since uint64, follow bool) iter.Seq2[api.PinChange, error]
}

// Statuses tells how far the peers got, and makes them try again. Of an
// iteration that yields an error nothing more is asked.
type Statuses interface {
	Status(ctx context.Context, c api.Cid, local bool) (api.GlobalPinInfo, error)
	StatusAll(context.Context, api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error]
	Recover(ctx context.Context, c api.Cid, local bool) (api.GlobalPinInfo, error)
	RecoverAll(ctx context.Context, local bool) iter.Seq2[api.GlobalPinInfo, error]
}

// Cluster knows the peers.
type Cluster interface {
	// ReadAt waits until reads show what is asked for, and returns the log
	// index that they show at least.
	ReadAt(context.Context, api.ReadPoint) (uint64, error)
	ID(context.Context) (api.ID, error)
	Version() api.Version
	Health
	// Alerts are what an operator should look at now, newest first.
	Alerts() []api.Alert
	Peers(context.Context) iter.Seq2[api.ID, error]
	RemovePeer(context.Context, api.RemoveRequest) error
	SetRole(context.Context, api.RoleRequest) error
	TransferLeadership(context.Context, peer.ID) error
	RepoGC(ctx context.Context, local bool) (api.GlobalRepoGC, error)
}

// Adder turns an upload into a pinned DAG. It calls emit, from one goroutine
// at a time, as files are done; an error of emit ends the add.
type Adder interface {
	Add(ctx context.Context, body *multipart.Reader, params api.AddParams, emit func(api.AddedOutput) error) error
}
