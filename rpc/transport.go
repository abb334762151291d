package rpc

import (
	"context"
	"errors"
	"fmt"
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

// Names of the services on the wire.
const (
	serviceCluster = "Cluster"
	serviceTracker = "Tracker"
	serviceMonitor = "Monitor"
	serviceNode    = "Node"
)

// openMethods are those that a peer which is not a member may call. Everything
// else is for members.
var openMethods = map[string]bool{
	serviceCluster + ".Join":     true,
	serviceCluster + ".Standing": true,
}

// Allowed says whether a peer may call a method.
func Allowed(member bool, service, method string) bool {
	return member || openMethods[service+"."+method]
}

type libp2pTransport struct{ client *rpc.Client }

// Serve offers the services of this peer to others over libp2p and returns the
// transport to reach them. isMember decides who may call what.
func Serve(h host.Host, services Services, isMember func(peer.ID) bool) (Transport, error) {
	server := rpc.NewServer(h, protocol.ID(api.RPCProtocol),
		rpc.WithAuthorizeFunc(func(id peer.ID, service, method string) bool {
			return Allowed(isMember(id), service, method)
		}))
	for name, object := range services.objects() {
		if err := server.RegisterName(name, object); err != nil {
			return nil, fmt.Errorf("register rpc service %s: %w", name, err)
		}
	}
	return NewTransport(h), nil
}

// NewTransport reaches other peers over libp2p without serving any.
func NewTransport(h host.Host) Transport {
	return &libp2pTransport{client: rpc.NewClient(h, protocol.ID(api.RPCProtocol))}
}

func (t *libp2pTransport) Call(ctx context.Context, to peer.ID, service, method string, in, out any) error {
	return wireError(to, t.client.CallContext(ctx, to, service, method, in, out))
}

func (t *libp2pTransport) Stream(ctx context.Context, to peer.ID, service, method string, in, out any) error {
	return wireError(to, t.client.Stream(ctx, to, service, method, in, out))
}

// wireError gives a failed exchange its code: the peer was not reached, or it
// refused us.
func wireError(to peer.ID, err error) error {
	switch {
	case err == nil:
		return nil
	case rpc.IsAuthorizationError(err):
		return api.Errorf(api.CodeForbidden, "peer %s does not accept this peer as a member of its cluster; join it with 'cluster-service join TOKEN'", to)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return api.Errorf(api.CodeUnavailable, "peer %s did not answer in time: %w", to, err)
	}
	return api.Errorf(api.CodeUnavailable, "peer %s cannot be reached: %w", to, err)
}

// sender tells who made a call; the transport authenticated it.
func sender(ctx context.Context) (peer.ID, error) {
	id, err := rpc.GetRequestSender(ctx)
	if err != nil {
		return "", fmt.Errorf("read the sender of a call: %w", err)
	}
	return id, nil
}

// objects returns what is registered, by name.
func (s Services) objects() map[string]any {
	return map[string]any{
		serviceCluster: &clusterService{handler: s.Cluster, joiner: s.Joiner},
		serviceTracker: &trackerService{handler: s.Tracker},
		serviceMonitor: &monitorService{handler: s.Monitor},
		serviceNode:    &nodeService{handler: s.Node},
	}
}

// callTimeout bounds a call whose caller set no deadline.
const callTimeout = 30 * time.Second
