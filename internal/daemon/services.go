package daemon

import (
	"context"
	"slices"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/adder"
	"holdfast/api"
	"holdfast/cluster"
	"holdfast/rpc"
)

// leaderOnly answers other peers' requests to the leader. A peer that is not
// the leader says so instead of forwarding a second time: who asked knows
// better where to go next.
type leaderOnly struct {
	*cluster.Cluster
	leads       func() bool
	whereabouts func(peer.ID) api.Member
}

func (l leaderOnly) Whereabouts(_ context.Context, id peer.ID) (api.Member, error) {
	return l.whereabouts(id), nil
}

// here refuses what only the leader does.
func (l leaderOnly) here() error {
	if !l.leads() {
		return api.Errorf(api.CodeNoLeader, "this peer is not the leader")
	}
	return nil
}

func (l leaderOnly) Pin(ctx context.Context, in api.PinRequest) (api.PinResult, error) {
	return l.AsLeader().Pin(ctx, in)
}

func (l leaderOnly) Unpin(ctx context.Context, in api.UnpinRequest) (api.PinResult, error) {
	return l.AsLeader().Unpin(ctx, in)
}

func (l leaderOnly) Bulk(ctx context.Context, in []api.BulkLine) ([]api.BulkResult, error) {
	return l.AsLeader().Bulk(ctx, in)
}

func (l leaderOnly) Allocate(ctx context.Context, in api.PinOptions) (api.Placement, error) {
	return l.AsLeader().Allocate(ctx, in)
}

func (l leaderOnly) Decline(ctx context.Context, in api.DeclineRequest) error {
	return l.AsLeader().Decline(ctx, in)
}

func (l leaderOnly) ReadIndex(ctx context.Context) (uint64, error) {
	return l.AsLeader().ReadIndex(ctx)
}

func (l leaderOnly) RemovePeer(ctx context.Context, in api.RemoveRequest) error {
	if err := l.here(); err != nil {
		return err
	}
	return l.Cluster.RemovePeer(ctx, in)
}

func (l leaderOnly) SetRole(ctx context.Context, in api.RoleRequest) error {
	if err := l.here(); err != nil {
		return err
	}
	return l.Cluster.SetRole(ctx, in)
}

func (l leaderOnly) TransferLeadership(ctx context.Context, to peer.ID) error {
	if err := l.here(); err != nil {
		return err
	}
	return l.Cluster.TransferLeadership(ctx, to)
}

func (l leaderOnly) CreateToken(ctx context.Context, in api.TokenRequest) error {
	if err := l.here(); err != nil {
		return err
	}
	return l.Cluster.CreateToken(ctx, in)
}

func (l leaderOnly) PutMember(ctx context.Context, in api.Member) error {
	if err := l.here(); err != nil {
		return err
	}
	return l.Cluster.PutMember(ctx, in)
}

func (l leaderOnly) Join(ctx context.Context, in api.JoinRequest) (api.JoinReply, error) {
	if err := l.here(); err != nil {
		return api.JoinReply{}, err
	}
	return l.Cluster.Join(ctx, in)
}

// roleOf says what another peer is to this one.
func (d *Daemon) roleOf(id peer.ID) rpc.Role {
	if !d.trust.isMember(id) {
		return rpc.Stranger
	}
	if leader, led := d.log.Leader(); led && leader == id {
		return rpc.Leader
	}
	if slices.ContainsFunc(d.log.Members(), func(m api.RaftMember) bool { return m.ID == id && m.Voter }) {
		return rpc.Voter
	}
	return rpc.Learner
}

// blockWriter lets other peers work with this peer's node.
type blockWriter struct{ *Daemon }

func (b blockWriter) LocalRepoStat(ctx context.Context) (api.RepoStat, error) {
	return b.cluster.LocalRepoStat(ctx)
}

func (b blockWriter) LocalRepoGC(ctx context.Context) (api.RepoGC, error) {
	return b.cluster.LocalRepoGC(ctx)
}

func (b blockWriter) CollectGarbage(ctx context.Context, emit func(api.RepoGCKey)) error {
	return b.cluster.CollectGarbage(ctx, emit)
}

func (b blockWriter) Lease(ctx context.Context) (func(), error) { return b.node.Lease(ctx) }
func (b blockWriter) Sync(ctx context.Context) error            { return b.node.Sync(ctx) }

// PutBlocks checks each block against its CID, for it comes from elsewhere.
func (b blockWriter) PutBlocks(ctx context.Context, batch []api.Block) error {
	verified := make([]blocks.Block, 0, len(batch))
	for _, in := range batch {
		sum, err := in.Cid.Prefix().Sum(in.Data)
		if err != nil {
			return api.Errorf(api.CodeInvalid, "block %s: %w", in.Cid, err)
		}
		if !sum.Equals(in.Cid.Cid) {
			return api.Errorf(api.CodeInvalid, "block %s arrived damaged: its content has CID %s", in.Cid, sum)
		}
		block, err := blocks.NewBlockWithCid(in.Data, in.Cid.Cid)
		if err != nil {
			return err
		}
		verified = append(verified, block)
	}
	return b.node.PutBlocks(ctx, verified)
}

// openDestination begins to send blocks of an add to a peer, or to ourselves.
func (d *Daemon) openDestination(ctx context.Context, to peer.ID) (adder.Destination, error) {
	if to == d.ID() {
		return &localDestination{node: d.node, sync: func() error { return d.node.Sync(ctx) }}, nil
	}
	return remoteDestination{d.remote.OpenBlocks(ctx, to)}, nil
}

type remoteDestination struct{ *rpc.BlockStream }

func (r remoteDestination) Put(_ context.Context, batch []api.Block) error {
	return r.BlockStream.Put(batch)
}

// localDestination writes to this peer's own node. The importer has just
// hashed the blocks, so they are not verified again.
type localDestination struct {
	node Node
	sync func() error
}

func (l *localDestination) Put(ctx context.Context, batch []api.Block) error {
	out := make([]blocks.Block, 0, len(batch))
	for _, in := range batch {
		block, err := blocks.NewBlockWithCid(in.Data, in.Cid.Cid)
		if err != nil {
			return err
		}
		out = append(out, block)
	}
	return l.node.PutBlocks(ctx, out)
}

func (l *localDestination) Close() error { return l.sync() }

// holders are the IPFS nodes that surely or likely have a pin's blocks: those
// of the other peers it is allocated to, and its origins.
func (d *Daemon) holders(pin api.Pin) []peer.AddrInfo {
	var out []peer.AddrInfo
	for _, view := range d.monitor.View() {
		r := view.Report
		if r.Peer == d.ID() || r.IPFS == "" || view.State == api.PeerDown || !pin.AllocatedTo(r.Peer) {
			continue
		}
		out = append(out, ipfsInfo(r))
	}
	for _, origin := range pin.Origins {
		if info, err := peer.AddrInfoFromP2pAddr(origin); err == nil {
			out = append(out, *info)
		}
	}
	return out
}

// ipfsInfo is how to reach a peer's IPFS node.
func ipfsInfo(r api.PeerReport) peer.AddrInfo {
	info := peer.AddrInfo{ID: r.IPFS}
	for _, addr := range r.IPFSAddresses {
		if transport, _ := peer.SplitAddr(addr); transport != nil {
			info.Addrs = append(info.Addrs, transport)
		}
	}
	return info
}

// declineFull passes on that this peer has no space for a pin. Events are not
// to block, and a decline that is dropped is repeated with the next attempt.
func (d *Daemon) declineFull(queue chan<- api.DeclineRequest) func(api.PinInfo) {
	return func(info api.PinInfo) {
		if info.ErrorCode != api.CodeNoSpace || info.Status != api.StatusPinError {
			return
		}
		select {
		case queue <- api.DeclineRequest{Cid: info.Cid, Peer: d.ID(), Reason: info.Error}:
		default:
		}
	}
}

func (d *Daemon) sendDeclines(ctx context.Context, queue <-chan api.DeclineRequest) error {
	for {
		select {
		case req := <-queue:
			bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
			if err := d.cluster.Decline(bounded, req); err != nil {
				d.logger.Warn("replica not moved away from this full peer", "cid", req.Cid, "err", err)
			}
			cancel()
		case <-ctx.Done():
			return nil
		}
	}
}
