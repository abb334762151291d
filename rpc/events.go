package rpc

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p-gorpc/stats"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Events are told what is asked between peers; each may be nil. They must be
// quick. Methods are those of this page's table, "Cluster.Pin" for one, or "other".
type Events struct {
	Calls   func() // this peer asks another
	Called  func(method string, code api.Code, took time.Duration)
	Serves  func() // a member asks this peer
	Served  func(method string, failed bool, took time.Duration)
	Refused func() // a stranger was turned away
}

func (e Events) refused() {
	if e.Refused != nil {
		e.Refused()
	}
}

// Observed tells of what goes through a transport.
func Observed(t Transport, events Events) Transport {
	if events.Calls == nil || events.Called == nil {
		return t
	}
	return observed{t, events}
}

type observed struct {
	transport Transport
	events    Events
}

func (o observed) Call(ctx context.Context, to peer.ID, service, method string, in, out any) error {
	o.events.Calls()
	begun := time.Now()
	err := o.transport.Call(ctx, to, service, method, in, out)
	code := codeOf(err)
	if reply, ok := out.(interface{ failure() *api.Error }); ok && err == nil && reply.failure() != nil {
		code = reply.failure().Code
	}
	o.events.Called(nameOf(service+"."+method), code, time.Since(begun))
	return err
}

func (o observed) Stream(ctx context.Context, to peer.ID, service, method string, in, out any) error {
	o.events.Calls()
	begun := time.Now()
	err := o.transport.Stream(ctx, to, service, method, in, out)
	o.events.Called(nameOf(service+"."+method), codeOf(err), time.Since(begun))
	return err
}

func codeOf(err error) api.Code {
	if err == nil {
		return ""
	}
	return api.CodeOf(err)
}

func (r *Reply[T]) failure() *api.Error { return r.Err }

// nameOf is a method of ours, and never what somebody else made up.
func nameOf(method string) string {
	if _, known := access[method]; known {
		return method
	}
	return "other"
}

// served tells of what gorpc serves.
type served struct{ events Events }

type servedMethod struct{}

// TagRPC keeps the method for the end.
func (s served) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	name := info.FullMethodName
	if len(name) > 0 && name[0] == '/' {
		name = name[1:]
	}
	return context.WithValue(ctx, servedMethod{}, nameOf(name))
}

// HandleRPC is told of the beginning and the end, and of parts between them.
func (s served) HandleRPC(ctx context.Context, what stats.RPCStats) {
	switch what := what.(type) {
	case *stats.Begin:
		s.events.Serves()
	case *stats.End:
		method, _ := ctx.Value(servedMethod{}).(string)
		s.events.Served(method, what.Error != nil, what.EndTime.Sub(what.BeginTime))
	}
}
