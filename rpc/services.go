package rpc

import (
	"context"
	"iter"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Cluster is what a peer asks of the leader, or of any member.
type Cluster interface {
	Pin(context.Context, api.PinRequest) (api.PinResult, error)
	Unpin(context.Context, api.UnpinRequest) (api.PinResult, error)
	Bulk(context.Context, []api.BulkLine) ([]api.BulkResult, error)
	Allocate(context.Context, api.PinOptions) (api.Placement, error)
	Decline(context.Context, api.DeclineRequest) error
	ReadIndex(context.Context) (uint64, error)
	RemovePeer(context.Context, api.RemoveRequest) error
	SetRole(context.Context, api.RoleRequest) error
	TransferLeadership(context.Context, peer.ID) error
	CreateToken(context.Context, api.TokenRequest) error
	PutMember(context.Context, api.Member) error
	Join(context.Context, api.JoinRequest) (api.JoinReply, error) // that another member was asked for
	LocalID(context.Context) (api.ID, error)
	IsMember(context.Context, peer.ID) (bool, error)
	// Whereabouts tells where the peer reaches another member now; no addresses:
	// it does not.
	Whereabouts(context.Context, peer.ID) (api.Member, error)
}

// Joiner is what a stranger may ask, and nothing else: to be admitted, and
// whether it is a member.
type Joiner interface {
	Join(context.Context, api.JoinRequest) (api.JoinReply, error)
	Standing(context.Context, peer.ID) (api.Standing, error)
}

// Tracker is what a peer tells of its own pins.
type Tracker interface {
	LocalStatus(context.Context, api.Cid) (api.PinInfo, error)
	LocalStatusAll(context.Context, api.StatusQuery) iter.Seq2[api.PinInfo, error]
	LocalRecover(context.Context, api.Cid) (api.PinInfo, error)
	LocalRecoverAll(context.Context) iter.Seq2[api.PinInfo, error]
}

// Monitor takes the reports of the peers; only the leader does.
type Monitor interface {
	Receive(ctx context.Context, from peer.ID, report api.PeerReport) (api.Digest, error)
}

// Node is what a peer lets others do with its IPFS node.
type Node interface {
	LocalRepoStat(context.Context) (api.RepoStat, error)
	LocalRepoGC(context.Context) (api.RepoGC, error)
	// CollectGarbage calls emit for what it removed, one call after the other.
	CollectGarbage(ctx context.Context, emit func(api.RepoGCKey)) error
	// PutBlocks verifies blocks and writes them; Sync makes them durable.
	PutBlocks(context.Context, []api.Block) error
	Sync(context.Context) error
	// Lease holds off garbage collection until a moment after release, so
	// that the pin of what was added can arrive.
	Lease(context.Context) (release func(), err error)
}

// Services are the handlers of one peer.
type Services struct {
	Cluster Cluster
	Joiner  Joiner
	Tracker Tracker
	Monitor Monitor
	Node    Node
	Events  Events
}

// Reply carries a result, or the error with its code.
type Reply[T any] struct {
	Value T
	Err   *api.Error
}

func (r *Reply[T]) set(value T, err error) error {
	r.Value, r.Err = value, api.AsError(err)
	return nil
}

// Nothing is the value of a request or reply that has none.
type Nothing struct{}

type clusterService struct {
	handler Cluster
	joiner  Joiner
}

func (s *clusterService) Pin(ctx context.Context, in api.PinRequest, out *Reply[api.PinResult]) error {
	return out.set(s.handler.Pin(ctx, in))
}

func (s *clusterService) Unpin(ctx context.Context, in api.UnpinRequest, out *Reply[api.PinResult]) error {
	return out.set(s.handler.Unpin(ctx, in))
}

func (s *clusterService) Bulk(ctx context.Context, in []api.BulkLine, out *Reply[[]api.BulkResult]) error {
	return out.set(s.handler.Bulk(ctx, in))
}

func (s *clusterService) Allocate(ctx context.Context, in api.PinOptions, out *Reply[api.Placement]) error {
	return out.set(s.handler.Allocate(ctx, in))
}

func (s *clusterService) Decline(ctx context.Context, in api.DeclineRequest, out *Reply[Nothing]) error {
	if err := ownCall(ctx, "Cluster.Decline", in.Peer); err != nil {
		return out.set(Nothing{}, err)
	}
	return out.set(Nothing{}, s.handler.Decline(ctx, in))
}

func (s *clusterService) ReadIndex(ctx context.Context, _ Nothing, out *Reply[uint64]) error {
	return out.set(s.handler.ReadIndex(ctx))
}

func (s *clusterService) SetRole(ctx context.Context, in api.RoleRequest, out *Reply[Nothing]) error {
	return out.set(Nothing{}, s.handler.SetRole(ctx, in))
}

func (s *clusterService) TransferLeadership(ctx context.Context, in peer.ID, out *Reply[Nothing]) error {
	return out.set(Nothing{}, s.handler.TransferLeadership(ctx, in))
}

func (s *clusterService) RemovePeer(ctx context.Context, in api.RemoveRequest, out *Reply[Nothing]) error {
	return out.set(Nothing{}, s.handler.RemovePeer(ctx, in))
}

func (s *clusterService) CreateToken(ctx context.Context, in api.TokenRequest, out *Reply[Nothing]) error {
	return out.set(Nothing{}, s.handler.CreateToken(ctx, in))
}

func (s *clusterService) PutMember(ctx context.Context, in api.Member, out *Reply[Nothing]) error {
	if err := ownCall(ctx, "Cluster.PutMember", in.ID); err != nil {
		return out.set(Nothing{}, err)
	}
	return out.set(Nothing{}, s.handler.PutMember(ctx, in))
}

func (s *clusterService) LocalID(ctx context.Context, _ Nothing, out *Reply[api.ID]) error {
	return out.set(s.handler.LocalID(ctx))
}

func (s *clusterService) IsMember(ctx context.Context, in peer.ID, out *Reply[bool]) error {
	return out.set(s.handler.IsMember(ctx, in))
}

func (s *clusterService) Whereabouts(ctx context.Context, in peer.ID, out *Reply[api.Member]) error {
	return out.set(s.handler.Whereabouts(ctx, in))
}

func (s *clusterService) Join(ctx context.Context, in api.JoinRequest, out *Reply[api.JoinReply]) error {
	return out.set(s.handler.Join(ctx, in))
}

// Standing is what peers of an older version ask; newer ones ask the Joiner.
func (s *clusterService) Standing(ctx context.Context, in Nothing, out *Reply[api.Standing]) error {
	return (&joinerService{s.joiner}).Standing(ctx, in, out)
}

type joinerService struct{ joiner Joiner }

func (s *joinerService) Join(ctx context.Context, in api.JoinRequest, out *Reply[api.JoinReply]) error {
	if err := ownCall(ctx, "Joiner.Join", in.Member.ID); err != nil {
		return out.set(api.JoinReply{}, err)
	}
	return out.set(s.joiner.Join(ctx, in))
}

// Standing answers about who asks, and about nobody else.
func (s *joinerService) Standing(ctx context.Context, _ Nothing, out *Reply[api.Standing]) error {
	id, err := sender(ctx)
	if err != nil {
		return out.set(api.Standing{}, err)
	}
	return out.set(s.joiner.Standing(ctx, id))
}

type trackerService struct{ handler Tracker }

func (s *trackerService) Status(ctx context.Context, in api.Cid, out *Reply[api.PinInfo]) error {
	return out.set(s.handler.LocalStatus(ctx, in))
}

// StatusEach streams statuses.
func (s *trackerService) StatusEach(ctx context.Context, in <-chan api.StatusQuery, out chan<- Frame[api.PinInfo]) error {
	return sendFrames(ctx, in, out, s.handler.LocalStatusAll)
}

// StatusAll is StatusEach for peers of an older version.
func (s *trackerService) StatusAll(ctx context.Context, in <-chan api.StatusQuery, out chan<- Reply[[]api.PinInfo]) error {
	return sendBatches(ctx, in, out, s.handler.LocalStatusAll)
}

func (s *trackerService) Recover(ctx context.Context, in api.Cid, out *Reply[api.PinInfo]) error {
	return out.set(s.handler.LocalRecover(ctx, in))
}

// RecoverEach tries failed pins again and streams them.
func (s *trackerService) RecoverEach(ctx context.Context, in <-chan Nothing, out chan<- Frame[api.PinInfo]) error {
	return sendFrames(ctx, in, out, s.recoverAll)
}

// RecoverAll is RecoverEach for peers of an older version.
func (s *trackerService) RecoverAll(ctx context.Context, in <-chan Nothing, out chan<- Reply[[]api.PinInfo]) error {
	return sendBatches(ctx, in, out, s.recoverAll)
}

func (s *trackerService) recoverAll(ctx context.Context, _ Nothing) iter.Seq2[api.PinInfo, error] {
	return s.handler.LocalRecoverAll(ctx)
}

type monitorService struct{ handler Monitor }

func (s *monitorService) Report(ctx context.Context, in api.PeerReport, out *Reply[api.Digest]) error {
	if err := ownCall(ctx, "Monitor.Report", in.Peer); err != nil {
		return out.set(api.Digest{}, err)
	}
	return out.set(s.handler.Receive(ctx, in.Peer, in))
}

type nodeService struct{ handler Node }

func (s *nodeService) RepoStat(ctx context.Context, _ Nothing, out *Reply[api.RepoStat]) error {
	return out.set(s.handler.LocalRepoStat(ctx))
}

// CollectGarbage streams what is removed.
func (s *nodeService) CollectGarbage(ctx context.Context, in <-chan Nothing, out chan<- Frame[api.RepoGCKey]) error {
	return sendFrames(ctx, in, out, func(ctx context.Context, _ Nothing) iter.Seq2[api.RepoGCKey, error] {
		return func(yield func(api.RepoGCKey, error) bool) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			err := s.handler.CollectGarbage(ctx, func(key api.RepoGCKey) {
				if ctx.Err() == nil && !yield(key, nil) {
					cancel()
				}
			})
			if err != nil && ctx.Err() == nil {
				yield(api.RepoGCKey{}, err)
			}
		}
	})
}

// RepoGC is CollectGarbage for peers of an older version.
func (s *nodeService) RepoGC(ctx context.Context, _ Nothing, out *Reply[api.RepoGC]) error {
	return out.set(s.handler.LocalRepoGC(ctx))
}

// PutBlocks takes batches until one says End, and acknowledges each when it is
// written, the last one when all are durable. A stream that ends without End
// was cut off. One that is silent for blockSilence is given up, so that a sender
// that stands still does not hold off garbage collection here for good.
func (s *nodeService) PutBlocks(ctx context.Context, in <-chan api.BlockBatch, out chan<- Reply[uint64]) error {
	defer close(out)
	release, err := s.handler.Lease(ctx)
	if err != nil {
		select {
		case out <- Reply[uint64]{Err: api.AsError(err)}:
		case <-ctx.Done():
		}
		return nil
	}
	defer release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var stored uint64
	batches := ahead(ctx, in)
	for {
		batch, ok, err := nextBatch(ctx, batches)
		if err != nil {
			select {
			case out <- Reply[uint64]{Value: stored, Err: api.AsError(err)}:
			default: // the acknowledgements are not taken either
			}
			return nil
		}
		if !ok {
			return nil
		}
		err = s.handler.PutBlocks(ctx, batch.Blocks)
		if err == nil && batch.End {
			err = s.handler.Sync(ctx)
		}
		stored += uint64(len(batch.Blocks))
		reply := Reply[uint64]{Value: stored, Err: api.AsError(err)}
		select {
		case out <- reply:
		case <-ctx.Done():
			return nil
		}
		if batch.End || reply.Err != nil {
			return nil
		}
	}
}

// blockSilence is how long a sender of blocks may say nothing. The adder sends
// an empty batch every 30 s while it has none; peers of an older version send
// none, and a batch of theirs takes long to fill when their client is slow.
const blockSilence = 5 * time.Minute

// nextBatch waits for a batch; false: there are no more.
func nextBatch(ctx context.Context, batches <-chan api.BlockBatch) (api.BlockBatch, bool, error) {
	silence := time.NewTimer(blockSilence)
	defer silence.Stop()
	select {
	case batch, ok := <-batches:
		return batch, ok, nil
	case <-ctx.Done():
		return api.BlockBatch{}, false, nil
	case <-silence.C:
		return api.BlockBatch{}, false, api.Errorf(api.CodeUnavailable, "no block came for %s: the add was given up here", blockSilence)
	}
}
