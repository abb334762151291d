package daemon

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"holdfast/api"
	"holdfast/config"
	"holdfast/rpc"
	"holdfast/state"
)

// Join asks the members that a token names to admit this peer, and writes the
// cluster's secret and members into the folder. Repeating it with the same
// token and identity is safe.
func Join(ctx context.Context, dir string, token JoinToken, identity Identity, c config.Config, version api.Version) error {
	info := ClusterInfo{ID: token.ClusterID}
	var err error
	if info.Secret, err = hex.DecodeString(token.Secret); err != nil || len(info.Secret) != 32 {
		return api.Errorf(api.CodeInvalid, "the join token is damaged: its secret is not 64 hexadecimal digits")
	}
	h, err := newHost(identity, info, c.ClusterListen, c.ClusterAnnounce, joinConnections, version.Version, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	request, err := joinRequest(h, identity, c, version, token.Credential)
	if err != nil {
		return err
	}
	request.ClusterID = token.ClusterID
	reply, err := askToJoin(ctx, h, token, request)
	if err != nil {
		return err
	}
	info.Seeds = reply.Members
	return info.Save(dir)
}

// joinRequest is what a new peer says of itself.
func joinRequest(h host.Host, identity Identity, c config.Config, version api.Version, credential string) (api.JoinRequest, error) {
	addresses, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: identity.ID, Addrs: h.Addrs()})
	addresses = addresses[:min(len(addresses), api.MaxMemberAddresses)]
	return api.JoinRequest{Credential: credential, Version: version.Version, Protocol: api.RPCProtocol, Time: time.Now(),
		Member: api.Member{ID: identity.ID, Name: c.PeerName, Addresses: addresses, CommandVersion: state.CommandVersion}}, err
}

// askToJoin asks the members in turn until one has an answer.
func askToJoin(ctx context.Context, h host.Host, token JoinToken, request api.JoinRequest) (api.JoinReply, error) {
	client := rpc.NewClient(rpc.NewTransport(h))
	var problems []error
	for _, m := range token.Members {
		member, err := m.member()
		if err != nil {
			return api.JoinReply{}, fmt.Errorf("the join token is damaged: %w", err)
		}
		h.Peerstore().AddAddrs(member.ID, withoutPeer(member), peerstore.TempAddrTTL)
		reply, err := askMember(ctx, client, member.ID, request)
		if err == nil {
			return reply, nil
		}
		problems = append(problems, fmt.Errorf("peer %s (%s): %w", member.Name, member.ID, err))
		if code := api.CodeOf(err); code != api.CodeUnavailable && code != api.CodeNoLeader && code != api.CodeUnknownOutcome && code != api.CodeRateLimited {
			break // a refusal: another member would say the same
		}
	}
	err := errors.Join(problems...)
	if api.CodeOf(err) == api.CodeUnavailable {
		return api.JoinReply{}, fmt.Errorf("not admitted, no member of the cluster could be talked to; are they running, does their cluster.listen address reach this machine, and is the token of this cluster (with another secret they hang up)? %w", err)
	}
	return api.JoinReply{}, fmt.Errorf("not admitted: %w", err)
}

// askMember asks one member, and again while too many others ask it.
func askMember(ctx context.Context, client *rpc.Client, member peer.ID, request api.JoinRequest) (api.JoinReply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for {
		reply, err := client.AskToJoin(ctx, member, request)
		if api.CodeOf(err) != api.CodeRateLimited || !sleep(ctx, enterFirstPause) {
			return reply, err
		}
	}
}
