package fake

import (
	"context"
	"iter"
	"mime/multipart"
	"slices"

	"holdfast/api"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Service is a restapi.Service and a restapi.Adder made of funcs; a test sets those that it expects to be called.
type Service struct {
	OnID                 func() (api.ID, error)
	OnAlerts             func() []api.Alert
	OnReadiness          func() api.Readiness // nil: ready
	OnPeers              func() iter.Seq2[api.ID, error]
	OnRemovePeer         func(api.RemoveRequest) error
	OnSetRole            func(api.RoleRequest) error
	OnTransferLeadership func(peer.ID) error
	OnRepoGC             func(local bool) (api.GlobalRepoGC, error)
	OnPin                func(api.PinRequest) (api.PinResult, error)
	OnUnpin              func(api.UnpinRequest) (api.PinResult, error)
	OnBulk               func(iter.Seq[api.BulkLine]) iter.Seq[api.BulkResult]
	OnReadAt             func(api.ReadPoint) (uint64, error) // nil: index 1
	OnResolve            func(string) (api.Cid, error)
	OnAllocation         func(api.Cid) (api.Pin, error)
	OnAllocations        func(api.PinFilter) iter.Seq2[api.Pin, error]
	OnCount              func(api.PinFilter) (uint64, error)
	OnChanges            func(ctx context.Context, since uint64, follow bool) iter.Seq2[api.PinChange, error]
	OnStatus             func(api.Cid, bool) (api.GlobalPinInfo, error)
	OnStatusAll          func(api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error]
	OnRecover            func(api.Cid, bool) (api.GlobalPinInfo, error)
	OnRecoverAll         func(bool) iter.Seq2[api.GlobalPinInfo, error]
	OnAdd                func(*multipart.Reader, api.AddParams, func(api.AddedOutput) error) error
	Release              api.Version
}

// ID is part of restapi's interfaces.
func (f *Service) ID(context.Context) (api.ID, error) { return f.OnID() }

// Version is part of restapi's interfaces.
func (f *Service) Version() api.Version { return f.Release }

// Alerts is part of restapi's interfaces.
func (f *Service) Alerts() []api.Alert { return f.OnAlerts() }

// Readiness is part of restapi's interfaces.
func (f *Service) Readiness(context.Context) api.Readiness {
	if f.OnReadiness == nil {
		return api.NotReady()
	}
	return f.OnReadiness()
}

// Peers is part of restapi's interfaces.
func (f *Service) Peers(context.Context) iter.Seq2[api.ID, error] { return f.OnPeers() }

// RemovePeer is part of restapi's interfaces.
func (f *Service) RemovePeer(_ context.Context, r api.RemoveRequest) error {
	return f.OnRemovePeer(r)
}

// SetRole is part of restapi's interfaces.
func (f *Service) SetRole(_ context.Context, r api.RoleRequest) error { return f.OnSetRole(r) }

// TransferLeadership is part of restapi's interfaces.
func (f *Service) TransferLeadership(_ context.Context, id peer.ID) error {
	return f.OnTransferLeadership(id)
}

// Resolve is part of restapi's interfaces.
func (f *Service) Resolve(_ context.Context, p string) (api.Cid, error) { return f.OnResolve(p) }

// RepoGC is part of restapi's interfaces.
func (f *Service) RepoGC(_ context.Context, local bool) (api.GlobalRepoGC, error) {
	return f.OnRepoGC(local)
}

// Pin is part of restapi's interfaces.
func (f *Service) Pin(_ context.Context, r api.PinRequest) (api.PinResult, error) {
	return f.OnPin(r)
}

// Unpin is part of restapi's interfaces.
func (f *Service) Unpin(_ context.Context, r api.UnpinRequest) (api.PinResult, error) {
	return f.OnUnpin(r)
}

// Bulk is part of restapi's interfaces.
func (f *Service) Bulk(_ context.Context, lines iter.Seq[api.BulkLine]) iter.Seq[api.BulkResult] {
	return f.OnBulk(lines)
}

// ReadAt is part of restapi's interfaces.
func (f *Service) ReadAt(_ context.Context, at api.ReadPoint) (uint64, error) {
	if f.OnReadAt == nil {
		return 1, nil
	}
	return f.OnReadAt(at)
}

// Allocation is part of restapi's interfaces.
func (f *Service) Allocation(_ context.Context, c api.Cid) (api.Pin, error) {
	return f.OnAllocation(c)
}

// Allocations is part of restapi's interfaces.
func (f *Service) Allocations(_ context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	return f.OnAllocations(filter)
}

// Count is part of restapi's interfaces.
func (f *Service) Count(_ context.Context, filter api.PinFilter) (uint64, error) {
	return f.OnCount(filter)
}

// Changes is part of restapi's interfaces.
func (f *Service) Changes(ctx context.Context, since uint64, follow bool) iter.Seq2[api.PinChange, error] {
	return f.OnChanges(ctx, since, follow)
}

// Status is part of restapi's interfaces.
func (f *Service) Status(_ context.Context, c api.Cid, local bool) (api.GlobalPinInfo, error) {
	return f.OnStatus(c, local)
}

// StatusAll is part of restapi's interfaces.
func (f *Service) StatusAll(_ context.Context, q api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
	return f.OnStatusAll(q)
}

// Recover is part of restapi's interfaces.
func (f *Service) Recover(_ context.Context, c api.Cid, local bool) (api.GlobalPinInfo, error) {
	return f.OnRecover(c, local)
}

// RecoverAll is part of restapi's interfaces.
func (f *Service) RecoverAll(_ context.Context, local bool) iter.Seq2[api.GlobalPinInfo, error] {
	return f.OnRecoverAll(local)
}

// Add is part of restapi's interfaces.
func (f *Service) Add(_ context.Context, body *multipart.Reader, p api.AddParams, emit func(api.AddedOutput) error) error {
	return f.OnAdd(body, p, emit)
}

// Yields is a sequence of items that ends with err, if there is one.
func Yields[T any](err error, items ...T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for item := range slices.Values(items) {
			if !yield(item, nil) {
				return
			}
		}
		if err != nil {
			var zero T
			yield(zero, err)
		}
	}
}
