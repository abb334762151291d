package rpc

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/ugorji/go/codec"

	"holdfast/api"
)

// Memory is a network of peers in one process, for simulation. Messages go
// through the codec of the real transport, so that nothing is shared by
// accident and what cannot travel fails here too.
type Memory struct {
	// Link decides the fate of a message: how long it takes, and whether it
	// is lost (the caller then waits for its deadline, as with a dead link).
	// nil: at once, never lost.
	Link func(from, to peer.ID) (delay time.Duration, lost bool)

	mu    sync.Mutex
	peers map[peer.ID]*memoryPeer
}

type memoryPeer struct {
	objects map[string]any
	roleOf  func(peer.ID) Role
}

// Serve adds a peer to the network, in place of an earlier one of the same ID,
// and returns its transport.
func (m *Memory) Serve(self peer.ID, services Services, roleOf func(peer.ID) Role) Transport {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.peers == nil {
		m.peers = make(map[peer.ID]*memoryPeer)
	}
	m.peers[self] = &memoryPeer{objects: services.objects(), roleOf: roleOf}
	return &memoryTransport{network: m, self: self}
}

// Remove takes a peer off the network, as when its process is killed.
func (m *Memory) Remove(id peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.peers, id)
}

type memoryTransport struct {
	network *Memory
	self    peer.ID
}

// travel lets time pass for a message, or waits for the deadline if it is lost.
func (t *memoryTransport) travel(ctx context.Context, from, to peer.ID) error {
	if t.network.Link == nil {
		return ctx.Err()
	}
	delay, lost := t.network.Link(from, to)
	if lost {
		<-ctx.Done()
		return ctx.Err()
	}
	if delay <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *memoryTransport) find(to peer.ID, service, method string) (reflect.Value, error) {
	t.network.mu.Lock()
	p := t.network.peers[to]
	t.network.mu.Unlock()
	if p == nil {
		return reflect.Value{}, errors.New("connection refused")
	}
	if !Allowed(p.roleOf(t.self), service, method) {
		return reflect.Value{}, api.Errorf(api.CodeForbidden, "peer %s does not accept this peer as a member of its cluster", to)
	}
	function := reflect.ValueOf(p.objects[service]).MethodByName(method)
	if !function.IsValid() {
		return reflect.Value{}, api.Errorf(api.CodeUnsupported, "%s.%s of peer %s: %w", service, method, to, errOlder)
	}
	return function, nil
}

func (t *memoryTransport) Call(ctx context.Context, to peer.ID, service, method string, in, out any) error {
	if err := t.travel(ctx, t.self, to); err != nil {
		return wireError(to, err)
	}
	function, err := t.find(to, service, method)
	if err != nil {
		return memoryError(to, err)
	}
	signature := function.Type()
	argument := reflect.New(signature.In(1))
	if err := recode(in, argument.Interface()); err != nil {
		return fmt.Errorf("encode the request of %s.%s: %w", service, method, err)
	}
	reply := reflect.New(signature.In(2).Elem())
	server := context.WithValue(ctx, rpc.ContextKeyRequestSender, t.self)
	result := function.Call([]reflect.Value{reflect.ValueOf(server), argument.Elem(), reply})
	if err := t.travel(ctx, to, t.self); err != nil {
		return wireError(to, err)
	}
	if err, _ := result[0].Interface().(error); err != nil {
		return memoryError(to, err)
	}
	return recode(reply.Interface(), out)
}

func (t *memoryTransport) Stream(ctx context.Context, to peer.ID, service, method string, in, out any) error {
	replies := reflect.ValueOf(out)
	defer replies.Close()
	if err := t.travel(ctx, t.self, to); err != nil {
		return wireError(to, err)
	}
	function, err := t.find(to, service, method)
	if err != nil {
		return memoryError(to, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signature := function.Type()
	serverIn := reflect.MakeChan(reflect.ChanOf(reflect.BothDir, signature.In(1).Elem()), 0)
	serverOut := reflect.MakeChan(reflect.ChanOf(reflect.BothDir, signature.In(2).Elem()), 0)
	var pumps sync.WaitGroup
	pumps.Go(func() { pump(ctx, reflect.ValueOf(in), serverIn); serverIn.Close() })
	pumps.Go(func() { pump(ctx, serverOut, replies) })
	server := context.WithValue(ctx, rpc.ContextKeyRequestSender, t.self)
	result := function.Call([]reflect.Value{reflect.ValueOf(server), serverIn, serverOut})
	// The handler has closed its replies; what it has not read is dropped.
	if err, _ := result[0].Interface().(error); err != nil {
		cancel()
		pumps.Wait()
		return memoryError(to, err)
	}
	lost := ctx.Err()
	go func() {
		// The caller may go on sending until it has seen the end of the replies.
		for {
			if _, ok := serverIn.Recv(); !ok {
				return
			}
		}
	}()
	pumps.Wait()
	return wireError(to, lost)
}

// pump moves messages from one channel to another until the first is closed.
func pump(ctx context.Context, from, to reflect.Value) {
	done := reflect.ValueOf(ctx.Done())
	for {
		chosen, message, ok := reflect.Select([]reflect.SelectCase{
			{Dir: reflect.SelectRecv, Chan: done}, {Dir: reflect.SelectRecv, Chan: from}})
		if chosen == 0 || !ok {
			return
		}
		copied := reflect.New(to.Type().Elem())
		if err := recode(message.Interface(), copied.Interface()); err != nil {
			return
		}
		chosen, _, _ = reflect.Select([]reflect.SelectCase{
			{Dir: reflect.SelectRecv, Chan: done}, {Dir: reflect.SelectSend, Chan: to, Send: copied.Elem()}})
		if chosen == 0 {
			return
		}
	}
}

// handle is gorpc's. It remembers what it learnt about each type.
var handle = new(codec.MsgpackHandle)

// recode copies a message as the wire does.
func recode(from, to any) error {
	var wire []byte
	if err := codec.NewEncoderBytes(&wire, handle).Encode(from); err != nil {
		return err
	}
	return codec.NewDecoderBytes(wire, handle).Decode(to)
}

func memoryError(to peer.ID, err error) error {
	var coded *api.Error
	if errors.As(err, &coded) {
		return err
	}
	return wireError(to, err)
}
