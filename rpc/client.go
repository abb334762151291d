package rpc

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Client asks other peers, with one typed method per question. Errors have the
// code that they had where they happened; unavailable means that the peer was
// not reached or that its answer was lost.
type Client struct{ transport Transport }

// NewClient returns a client over a transport.
func NewClient(t Transport) *Client { return &Client{transport: t} }

func call[In, Out any](ctx context.Context, c *Client, to peer.ID, service, method string, in In) (Out, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	var reply Reply[Out]
	if err := c.transport.Call(ctx, to, service, method, in, &reply); err != nil {
		return reply.Value, err
	}
	if reply.Err != nil {
		return reply.Value, reply.Err
	}
	return reply.Value, nil
}

// Pin asks the leader to pin.
func (c *Client) Pin(ctx context.Context, to peer.ID, in api.PinRequest) (api.PinResult, error) {
	return call[api.PinRequest, api.PinResult](ctx, c, to, serviceCluster, "Pin", in)
}

// Unpin asks the leader to unpin.
func (c *Client) Unpin(ctx context.Context, to peer.ID, in api.UnpinRequest) (api.PinResult, error) {
	return call[api.UnpinRequest, api.PinResult](ctx, c, to, serviceCluster, "Unpin", in)
}

// Bulk asks the leader to carry out lines of a bulk write.
func (c *Client) Bulk(ctx context.Context, to peer.ID, in []api.BulkLine) ([]api.BulkResult, error) {
	return call[[]api.BulkLine, []api.BulkResult](ctx, c, to, serviceCluster, "Bulk", in)
}

// Allocate asks the leader where the blocks of an add shall go.
func (c *Client) Allocate(ctx context.Context, to peer.ID, in api.PinOptions) (api.Placement, error) {
	return call[api.PinOptions, api.Placement](ctx, c, to, serviceCluster, "Allocate", in)
}

// Decline tells the leader that a peer cannot hold a replica.
func (c *Client) Decline(ctx context.Context, to peer.ID, in api.DeclineRequest) error {
	_, err := call[api.DeclineRequest, Nothing](ctx, c, to, serviceCluster, "Decline", in)
	return err
}

// ReadIndex asks the leader for the index that a consistent read must reach.
func (c *Client) ReadIndex(ctx context.Context, to peer.ID) (uint64, error) {
	return call[Nothing, uint64](ctx, c, to, serviceCluster, "ReadIndex", Nothing{})
}

// RemovePeer asks the leader to remove a member.
func (c *Client) RemovePeer(ctx context.Context, to peer.ID, in api.RemoveRequest) error {
	_, err := call[api.RemoveRequest, Nothing](ctx, c, to, serviceCluster, "RemovePeer", in)
	return err
}

// SetRole tells the leader what a member shall be in the votes.
func (c *Client) SetRole(ctx context.Context, to peer.ID, in api.RoleRequest) error {
	_, err := call[api.RoleRequest, Nothing](ctx, c, to, serviceCluster, "SetRole", in)
	return err
}

// TransferLeadership asks the leader to make another peer the leader.
func (c *Client) TransferLeadership(ctx context.Context, to, next peer.ID) error {
	_, err := call[peer.ID, Nothing](ctx, c, to, serviceCluster, "TransferLeadership", next)
	return err
}

// CreateToken asks the leader to remember a join token.
func (c *Client) CreateToken(ctx context.Context, to peer.ID, in api.TokenRequest) error {
	_, err := call[api.TokenRequest, Nothing](ctx, c, to, serviceCluster, "CreateToken", in)
	return err
}

// PutMember tells the leader a member's present name and addresses.
func (c *Client) PutMember(ctx context.Context, to peer.ID, in api.Member) error {
	_, err := call[api.Member, Nothing](ctx, c, to, serviceCluster, "PutMember", in)
	return err
}

// ID asks a peer who it is.
func (c *Client) ID(ctx context.Context, to peer.ID) (api.ID, error) {
	return call[Nothing, api.ID](ctx, c, to, serviceCluster, "LocalID", Nothing{})
}

// IsMember asks a member whether another peer is one too.
func (c *Client) IsMember(ctx context.Context, to, id peer.ID) (bool, error) {
	return call[peer.ID, bool](ctx, c, to, serviceCluster, "IsMember", id)
}

// Whereabouts asks a member where it reaches another one now.
func (c *Client) Whereabouts(ctx context.Context, to, id peer.ID) (api.Member, error) {
	return call[peer.ID, api.Member](ctx, c, to, serviceCluster, "Whereabouts", id)
}

// Join asks the leader to admit a peer that has asked this member.
func (c *Client) Join(ctx context.Context, to peer.ID, in api.JoinRequest) (api.JoinReply, error) {
	return call[api.JoinRequest, api.JoinReply](ctx, c, to, serviceCluster, "Join", in)
}

// AskToJoin asks any member to admit this peer.
func (c *Client) AskToJoin(ctx context.Context, to peer.ID, in api.JoinRequest) (api.JoinReply, error) {
	return call[api.JoinRequest, api.JoinReply](ctx, c, to, serviceJoiner, "Join", in)
}

// Standing asks a member whether this peer is one, too.
func (c *Client) Standing(ctx context.Context, to peer.ID) (api.Standing, error) {
	return call[Nothing, api.Standing](ctx, c, to, serviceJoiner, "Standing", Nothing{})
}

// Status asks a peer for its status of a pin.
func (c *Client) Status(ctx context.Context, to peer.ID, in api.Cid) (api.PinInfo, error) {
	return call[api.Cid, api.PinInfo](ctx, c, to, serviceTracker, "Status", in)
}

// StatusAll streams a peer's statuses in the order of their CIDs' bytes.
func (c *Client) StatusAll(ctx context.Context, to peer.ID, in api.StatusQuery) iter.Seq2[api.PinInfo, error] {
	return frames(ctx, c, to, serviceTracker, "StatusEach", in, silence,
		stream[api.StatusQuery, api.PinInfo](ctx, c, to, serviceTracker, "StatusAll", in))
}

// Recover asks a peer to try a failed pin again now.
func (c *Client) Recover(ctx context.Context, to peer.ID, in api.Cid) (api.PinInfo, error) {
	return call[api.Cid, api.PinInfo](ctx, c, to, serviceTracker, "Recover", in)
}

// RecoverAll asks a peer to try all failed pins again now.
func (c *Client) RecoverAll(ctx context.Context, to peer.ID) iter.Seq2[api.PinInfo, error] {
	return frames(ctx, c, to, serviceTracker, "RecoverEach", Nothing{}, workSilence,
		stream[Nothing, api.PinInfo](ctx, c, to, serviceTracker, "RecoverAll", Nothing{}))
}

// Report sends a report to the leader and returns the leader's view.
func (c *Client) Report(ctx context.Context, to peer.ID, in api.PeerReport) (api.Digest, error) {
	return call[api.PeerReport, api.Digest](ctx, c, to, serviceMonitor, "Report", in)
}

// RepoStat asks for the size of a peer's IPFS repository.
func (c *Client) RepoStat(ctx context.Context, to peer.ID) (api.RepoStat, error) {
	return call[Nothing, api.RepoStat](ctx, c, to, serviceNode, "RepoStat", Nothing{})
}

// RepoGC asks a peer to collect garbage. It can take as long as ctx allows; the
// peer says all the while that it is at work.
func (c *Client) RepoGC(ctx context.Context, to peer.ID) (api.RepoGC, error) {
	result, more := api.RepoGC{Keys: []api.RepoGCKey{}}, 0
	err := receive(ctx, c, to, serviceNode, "CollectGarbage", Nothing{}, workSilence, func(f Frame[api.RepoGCKey]) bool {
		room := min(maxKeys-len(result.Keys), len(f.Items))
		result.Keys = append(result.Keys, f.Items[:room]...)
		more += len(f.Items) - room
		return true
	})
	if errors.Is(err, errOlder) {
		var reply Reply[api.RepoGC]
		if err := c.transport.Call(ctx, to, serviceNode, "RepoGC", Nothing{}, &reply); err != nil || reply.Err == nil {
			return reply.Value, err
		}
		return reply.Value, reply.Err
	}
	if more > 0 {
		result.Keys = append(result.Keys, api.RepoGCKey{Error: fmt.Sprintf("the list ends here; %d more blocks were removed", more)})
	}
	return result, err
}

// maxKeys is how many keys of what was removed are kept for an answer.
const maxKeys = 1_000_000

// stream sends one message and yields the items of the batches that come back
// from a peer of an older version.
func stream[In, Out any](ctx context.Context, c *Client, to peer.ID, service, method string, in In) iter.Seq2[Out, error] {
	return func(yield func(Out, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		requests := make(chan In, 1)
		requests <- in
		close(requests)
		replies := make(chan Reply[[]Out], 2)
		done := make(chan error, 1)
		go func() { done <- c.transport.Stream(ctx, to, service, method, requests, replies) }()
		var zero Out
		for reply := range replies {
			for _, item := range reply.Value {
				if !yield(item, nil) {
					cancel()
					for range replies {
					}
					<-done
					return
				}
			}
			if reply.Err != nil {
				yield(zero, reply.Err)
				cancel()
				for range replies {
				}
				<-done
				return
			}
		}
		if err := <-done; err != nil {
			yield(zero, err)
		}
	}
}
