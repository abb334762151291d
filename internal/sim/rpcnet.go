package sim

import (
	"context"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/rpc"
)

// rpcLink is a process's way to the services of the others. What a crashed
// process still says does not arrive, and neither does what it would be told.
type rpcLink struct {
	rpc.Transport
	net *network
	inc *incarnation
}

func (l rpcLink) Call(ctx context.Context, to peer.ID, service, method string, in, out any) error {
	return l.guard(ctx, to, func(ctx context.Context) error { return l.Transport.Call(ctx, to, service, method, in, out) })
}

func (l rpcLink) Stream(ctx context.Context, to peer.ID, service, method string, in, out any) error {
	return l.guard(ctx, to, func(ctx context.Context) error { return l.Transport.Stream(ctx, to, service, method, in, out) })
}

// guard breaks a call off when the process at one of its ends dies.
func (l rpcLink) guard(ctx context.Context, to peer.ID, do func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer l.inc.atKill(cancel)()
	target := l.net.find(to)
	if target != nil {
		defer target.atKill(cancel)()
	}
	err := do(ctx)
	if l.inc.crashed() || target != nil && target.crashed() {
		return api.Errorf(api.CodeUnavailable, "peer %s: connection reset", to)
	}
	return err
}
