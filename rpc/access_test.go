package rpc

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// answering answers every method with nothing.
type answering struct{}

func (answering) Pin(context.Context, api.PinRequest) (api.PinResult, error) {
	return api.PinResult{}, nil
}
func (answering) Unpin(context.Context, api.UnpinRequest) (api.PinResult, error) {
	return api.PinResult{}, nil
}
func (answering) Bulk(context.Context, []api.BulkLine) ([]api.BulkResult, error) { return nil, nil }
func (answering) Allocate(context.Context, api.PinOptions) (api.Placement, error) {
	return api.Placement{}, nil
}
func (answering) Decline(context.Context, api.DeclineRequest) error   { return nil }
func (answering) ReadIndex(context.Context) (uint64, error)           { return 0, nil }
func (answering) RemovePeer(context.Context, api.RemoveRequest) error { return nil }
func (answering) SetRole(context.Context, api.RoleRequest) error      { return nil }
func (answering) TransferLeadership(context.Context, peer.ID) error   { return nil }
func (answering) CreateToken(context.Context, api.TokenRequest) error { return nil }
func (answering) PutMember(context.Context, api.Member) error         { return nil }
func (answering) LocalID(context.Context) (api.ID, error)             { return api.ID{}, nil }
func (answering) IsMember(context.Context, peer.ID) (bool, error)     { return false, nil }
func (answering) Whereabouts(_ context.Context, id peer.ID) (api.Member, error) {
	return api.Member{ID: id}, nil
}
func (answering) LocalRepoStat(context.Context) (api.RepoStat, error)     { return api.RepoStat{}, nil }
func (answering) PutBlocks(context.Context, []api.Block) error            { return nil }
func (answering) Sync(context.Context) error                              { return nil }
func (answering) Lease(context.Context) (func(), error)                   { return func() {}, nil }
func (answering) Standing(context.Context, peer.ID) (api.Standing, error) { return api.Standing{}, nil }
func (answering) Join(context.Context, api.JoinRequest) (api.JoinReply, error) {
	return api.JoinReply{}, nil
}
func (answering) CollectGarbage(context.Context, func(api.RepoGCKey)) error { return nil }
func (answering) Receive(context.Context, peer.ID, api.PeerReport) (api.Digest, error) {
	return api.Digest{}, nil
}
func (answering) LocalStatus(context.Context, api.Cid) (api.PinInfo, error) {
	return api.PinInfo{}, nil
}
func (answering) LocalRecover(context.Context, api.Cid) (api.PinInfo, error) {
	return api.PinInfo{}, nil
}
func (answering) LocalStatusAll(context.Context, api.StatusQuery) iter.Seq2[api.PinInfo, error] {
	return func(func(api.PinInfo, error) bool) {}
}
func (answering) LocalRecoverAll(context.Context) iter.Seq2[api.PinInfo, error] {
	return func(func(api.PinInfo, error) bool) {}
}

func answerAll() Services {
	return Services{Cluster: answering{}, Joiner: answering{}, Tracker: answering{}, Monitor: answering{}, Node: answering{}}
}

// Each method of each service, called over a real connection in each role, is
// answered or refused as the table says; and the table knows them all.
func TestAccess(t *testing.T) {
	caller, callee := newHost(t), newHost(t)
	caller.Peerstore().AddAddrs(callee.ID(), callee.Addrs(), time.Hour)
	var role atomic.Int32
	if _, err := Serve(callee, answerAll(), func(peer.ID) Role { return Role(role.Load()) }); err != nil {
		t.Fatal(err)
	}
	transport := NewTransport(caller)
	open := map[Role]int{}
	seen := 0
	for name, object := range answerAll().objects() {
		typ := reflect.TypeOf(object)
		for i := range typ.NumMethod() {
			method := typ.Method(i)
			seen++
			if _, known := access[name+"."+method.Name]; !known {
				t.Errorf("the table does not know %s.%s", name, method.Name)
			}
			for _, as := range []Role{Stranger, Learner, Voter, Leader} {
				role.Store(int32(as))
				err := callAnything(t, transport, callee.ID(), name, method)
				allowed := err == nil
				if err != nil && api.CodeOf(err) != api.CodeForbidden {
					t.Errorf("%s.%s as %d: %v", name, method.Name, as, err)
				}
				if want := as != Stranger || name == serviceJoiner; allowed != want {
					t.Errorf("%s.%s as %d: %v", name, method.Name, as, err)
				}
				if allowed {
					open[as]++
				}
			}
		}
	}
	if seen != len(access) || open[Stranger] != 2 || open[Learner] != seen || open[Leader] != seen {
		t.Errorf("%d methods, %d in the table, open to %v", seen, len(access), open)
	}
}

// callAnything calls a method with the least request that is about the caller.
func callAnything(t *testing.T, transport Transport, to peer.ID, service string, method reflect.Method) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	in, out := method.Type.In(2), method.Type.In(3)
	self := transport.(*libp2pTransport).host.ID()
	if in.Kind() != reflect.Chan {
		argument := reflect.New(in).Elem()
		if in == reflect.TypeFor[peer.ID]() {
			argument.Set(reflect.ValueOf(self))
		}
		for _, field := range []string{"ID", "Peer"} {
			if in.Kind() == reflect.Struct && argument.FieldByName(field).IsValid() {
				argument.FieldByName(field).Set(reflect.ValueOf(self))
			}
		}
		if join, ok := argument.Interface().(api.JoinRequest); ok {
			join.Member.ID = self
			argument.Set(reflect.ValueOf(join))
		}
		reply := reflect.New(out.Elem())
		if err := transport.Call(ctx, to, service, method.Name, argument.Interface(), reply.Interface()); err != nil {
			return err
		}
		if refused := reply.Elem().FieldByName("Err").Interface().(*api.Error); refused != nil {
			return refused
		}
		return nil
	}
	requests := reflect.MakeChan(reflect.ChanOf(reflect.BothDir, in.Elem()), 1)
	request := reflect.New(in.Elem()).Elem()
	if batch, ok := request.Interface().(api.BlockBatch); ok {
		batch.End = true
		request.Set(reflect.ValueOf(batch))
	}
	requests.Send(request)
	requests.Close()
	replies := reflect.MakeChan(reflect.ChanOf(reflect.BothDir, out.Elem()), 100)
	return transport.Stream(ctx, to, service, method.Name, requests.Interface(), replies.Interface())
}

// A member speaks of itself, also one that leads.
func TestMembersSpeakOfThemselves(t *testing.T) {
	for _, as := range []Role{Learner, Voter, Leader} {
		caller, callee := newHost(t), newHost(t)
		caller.Peerstore().AddAddrs(callee.ID(), callee.Addrs(), time.Hour)
		if _, err := Serve(callee, answerAll(), func(peer.ID) Role { return as }); err != nil {
			t.Fatal(err)
		}
		c, to := NewClient(NewTransport(caller)), callee.ID()
		for what, tell := range map[string]func(about peer.ID) error{
			"PutMember": func(about peer.ID) error { return c.PutMember(t.Context(), to, api.Member{ID: about}) },
			"Decline":   func(about peer.ID) error { return c.Decline(t.Context(), to, api.DeclineRequest{Peer: about}) },
			"Report": func(about peer.ID) error {
				_, err := c.Report(t.Context(), to, api.PeerReport{Peer: about})
				return err
			},
			"AskToJoin": func(about peer.ID) error {
				_, err := c.AskToJoin(t.Context(), to, api.JoinRequest{Member: api.Member{ID: about}})
				return err
			},
		} {
			if err := tell(caller.ID()); err != nil {
				t.Errorf("%s of itself: %v", what, err)
			}
			if err := tell(callee.ID()); api.CodeOf(err) != api.CodeForbidden {
				t.Errorf("%s of another: %v", what, fmt.Sprint(err))
			}
		}
	}
}

func (answering) LocalRepoGC(context.Context) (api.RepoGC, error) { return api.RepoGC{}, nil }
