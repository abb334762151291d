package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"holdfast/api"
)

// Transport carries calls to other peers. Arguments of Stream are channels;
// the callee closes replies.
type Transport interface {
	Call(ctx context.Context, to peer.ID, service, method string, in, out any) error
	Stream(ctx context.Context, to peer.ID, service, method string, in, out any) error
}

type libp2pTransport struct {
	host   host.Host
	client *rpc.Client
}

// Serve offers the services of this peer to others over libp2p and returns the
// transport to reach them. roleOf says what a caller is to this peer; strangers
// reach the Joiner alone, and nothing that they send reaches gorpc.
func Serve(h host.Host, services Services, roleOf func(peer.ID) Role) (Transport, error) {
	inside := &gate{Host: h, isMember: func(id peer.ID) bool { return roleOf(id) != Stranger }, turns: map[peer.ID]chan struct{}{}, refused: services.Events.refused}
	options := []rpc.ServerOption{rpc.WithAuthorizeFunc(func(id peer.ID, service, method string) bool {
		return Allowed(roleOf(id), service, method)
	})}
	if services.Events.Serves != nil && services.Events.Served != nil {
		options = append(options, rpc.WithServerStatsHandler(served{services.Events}))
	}
	server := rpc.NewServer(inside, protocol.ID(api.RPCProtocol), options...)
	for name, object := range services.objects() {
		if name == serviceJoiner {
			continue
		}
		if err := server.RegisterName(name, object); err != nil {
			return nil, fmt.Errorf("register rpc service %s: %w", name, err)
		}
	}
	newDoor(services).open(h)
	return NewTransport(h), nil
}

// NewTransport reaches other peers over libp2p without serving any.
func NewTransport(h host.Host) Transport {
	return &libp2pTransport{host: h, client: rpc.NewClient(&gate{Host: h}, protocol.ID(api.RPCProtocol))}
}

func (t *libp2pTransport) Call(ctx context.Context, to peer.ID, service, method string, in, out any) error {
	if service == serviceJoiner {
		return t.knock(ctx, to, method, in, out)
	}
	return wireError(to, t.client.CallContext(ctx, to, service, method, in, out))
}

func (t *libp2pTransport) Stream(ctx context.Context, to peer.ID, service, method string, in, out any) error {
	return wireError(to, t.client.Stream(context.WithValue(ctx, streaming{}, true), to, service, method, in, out))
}

// wireError gives a failed exchange its code: the peer was not reached, or it
// refused us.
func wireError(to peer.ID, err error) error {
	switch {
	case err == nil:
		return nil
	case rpc.IsAuthorizationError(err):
		return api.Errorf(api.CodeForbidden, "peer %s does not accept this peer as a member of its cluster; join it with 'cluster-service join TOKEN'", to)
	case notServed(err):
		return api.Errorf(api.CodeUnsupported, "peer %s: %w", to, errOlder)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return api.Errorf(api.CodeUnavailable, "peer %s did not answer in time: %w", to, err)
	}
	return api.Errorf(api.CodeUnavailable, "peer %s cannot be reached: %w", to, err)
}

// notServed says that the peer knows no such method. gorpc has no code for it.
func notServed(err error) bool {
	text := fmt.Sprint(err)
	return rpc.IsServerError(err) && strings.HasPrefix(text, "rpc: can't find")
}

// objects returns what is registered, by name.
func (s Services) objects() map[string]any {
	return map[string]any{
		serviceCluster: &clusterService{handler: s.Cluster, joiner: s.Joiner},
		serviceJoiner:  &joinerService{joiner: s.Joiner},
		serviceTracker: &trackerService{handler: s.Tracker},
		serviceMonitor: &monitorService{handler: s.Monitor},
		serviceNode:    &nodeService{handler: s.Node},
	}
}

// callTimeout bounds a call whose caller set no deadline.
const callTimeout = 30 * time.Second
