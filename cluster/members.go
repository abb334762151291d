package cluster

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/state"
)

// maxSkew is how far the clock of a joining peer may be off: token and pin
// expiry compare times of different peers.
const maxSkew = 5 * time.Minute

// CreateToken makes the cluster remember a join token by its hash.
func (c *Cluster) CreateToken(ctx context.Context, req api.TokenRequest) error {
	_, err := onLeader(ctx, c,
		func(ctx context.Context) (struct{}, error) {
			if err := req.Validate(); err != nil {
				return struct{}{}, err
			}
			_, err := c.proposeHere(ctx, state.CreateTokenCommand{Hash: req.Hash, ExpiresAt: req.ExpiresAt, Reusable: req.Reusable})
			return struct{}{}, err
		},
		func(ctx context.Context, leader peer.ID) (struct{}, error) {
			return struct{}{}, c.remote.CreateToken(ctx, leader, req)
		})
	return err
}

// Join admits a peer that holds a valid token: it becomes a member and a
// learner. Asking again with the same token is safe. Errors: forbidden (the
// token), invalid (versions or clocks that do not fit).
func (c *Cluster) Join(ctx context.Context, req api.JoinRequest) (api.JoinReply, error) {
	if req.Protocol != api.RPCProtocol {
		return api.JoinReply{}, api.Errorf(api.CodeInvalid, "the new peer (version %s) speaks %s and this cluster (version %s) %s; install the same version on both",
			req.Version, req.Protocol, c.cfg.Version.Version, api.RPCProtocol)
	}
	if id := c.state.ClusterID(); req.ClusterID != "" && id != "" && req.ClusterID != id {
		return api.JoinReply{}, api.Errorf(api.CodeInvalid, "the join token is for cluster %s, and this peer belongs to %s; make a token on a peer of the cluster that is to be joined", req.ClusterID, id)
	}
	if skew := time.Since(req.Time).Abs(); skew > maxSkew {
		return api.JoinReply{}, api.Errorf(api.CodeInvalid, "the clocks of the two peers differ by %s; set both by NTP and try again", skew.Round(time.Second))
	}
	if err := req.Validate(); err != nil {
		return api.JoinReply{}, err
	}
	return onLeader(ctx, c,
		func(ctx context.Context) (api.JoinReply, error) { return c.admit(ctx, req) },
		func(ctx context.Context, leader peer.ID) (api.JoinReply, error) {
			return c.remote.Join(ctx, leader, req)
		})
}

func (c *Cluster) admit(ctx context.Context, req api.JoinRequest) (api.JoinReply, error) {
	command := state.JoinCommand{Hash: sha256.Sum256([]byte(req.Credential)), At: c.agreedTime(), Member: req.Member}
	if err := c.judgeJoin(ctx, command); err != nil {
		return api.JoinReply{}, err
	}
	command.Member.JoinedAt, command.Member.Role = c.wall().UTC(), ""
	if _, err := c.proposeHere(ctx, command); err != nil {
		return api.JoinReply{}, err
	}
	if !slices.ContainsFunc(c.membership.Members(), func(m api.RaftMember) bool { return m.ID == req.Member.ID }) {
		if err := c.membership.AddLearner(ctx, req.Member.ID); err != nil {
			return api.JoinReply{}, err
		}
	}
	members, err := c.state.Members()
	if err != nil {
		return api.JoinReply{}, err
	}
	c.logger.Info("peer admitted", "peer", req.Member.ID, "name", req.Member.Name)
	return api.JoinReply{ClusterID: c.state.ClusterID(), Members: members}, nil
}

// judgeJoin refuses a join before it is logged: those who may not join would fill
// the log. A token may have been made a moment ago, so a refusal is given by a
// pinset that contains all that was acknowledged.
func (c *Cluster) judgeJoin(ctx context.Context, join state.JoinCommand) error {
	err := c.state.Admits(join.Hash, join.Member.ID, join.At)
	if api.CodeOf(err) != api.CodeForbidden {
		return err
	}
	index, err := c.leading.get(ctx)
	if err != nil {
		return err
	}
	if err := c.log.WaitApplied(ctx, index); err != nil {
		return err
	}
	return c.state.Admits(join.Hash, join.Member.ID, join.At)
}

// proposeHere proposes a command if this peer is the leader.
func (c *Cluster) proposeHere(ctx context.Context, cmd command) (*state.Result, error) {
	if !c.log.IsLeader() {
		return nil, notLeader()
	}
	return c.propose(ctx, cmd)
}

// IsMember says whether this peer's pinset names a peer as a member.
func (c *Cluster) IsMember(_ context.Context, id peer.ID) (bool, error) {
	_, known, err := c.state.Member(id)
	return known, err
}

// Standing tells a peer whether it is a member, by what a majority knows: this
// peer may be behind. Errors: no_leader, unavailable.
func (c *Cluster) Standing(ctx context.Context, id peer.ID) (api.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.PeerTimeout)
	defer cancel()
	index, err := c.standing.get(ctx) // strangers may ask, as often as they like
	if err != nil {
		return api.Standing{}, err
	}
	if _, err := c.ReadAt(ctx, api.ReadPoint{Index: index}); err != nil {
		return api.Standing{}, err
	}
	_, member, err := c.state.Member(id)
	return api.Standing{Member: member, Recovered: c.cfg.Recovered}, err
}

// PutMember stores a member's present name and addresses.
func (c *Cluster) PutMember(ctx context.Context, member api.Member) error {
	_, err := onLeader(ctx, c,
		func(ctx context.Context) (struct{}, error) {
			known, exists, err := c.state.Member(member.ID)
			if err != nil {
				return struct{}{}, err
			}
			if !exists {
				return struct{}{}, api.Errorf(api.CodeForbidden, "%s is not a member of this cluster", member.ID)
			}
			if err := member.Validate(); err != nil {
				return struct{}{}, err
			}
			member.JoinedAt = known.JoinedAt
			_, err = c.proposeHere(ctx, state.PutMemberCommand{Member: member})
			return struct{}{}, err
		},
		func(ctx context.Context, leader peer.ID) (struct{}, error) {
			return struct{}{}, c.remote.PutMember(ctx, leader, member)
		})
	return err
}

// announceSelf tells the cluster this peer's name and addresses when they
// differ from what it knows. Run calls it until it succeeds.
func (c *Cluster) announceSelf(ctx context.Context) error {
	known, exists, err := c.state.Member(c.cfg.Self)
	if err != nil {
		return err
	}
	present := api.Member{ID: c.cfg.Self, Name: c.cfg.Name, Addresses: c.announced(), CommandVersion: c.state.Known()}
	if !exists || known.Name == present.Name && known.CommandVersion == present.CommandVersion && sameAddresses(known, present) {
		return nil
	}
	err = c.PutMember(ctx, present)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// announced are as many of this peer's addresses as are kept of a member.
func (c *Cluster) announced() []multiaddr.Multiaddr {
	all := c.fullAddresses()
	return all[:min(len(all), api.MaxMemberAddresses)]
}

func sameAddresses(a, b api.Member) bool {
	text := func(m api.Member) string {
		var all []string
		for _, addr := range m.Addresses {
			all = append(all, addr.String())
		}
		slices.Sort(all)
		return strings.Join(all, ",")
	}
	return text(a) == text(b)
}
