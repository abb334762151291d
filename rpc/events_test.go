package rpc

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// counted notes what is told.
type counted struct {
	mu   sync.Mutex
	told []string
	more chan struct{}
}

func (c *counted) note(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = append(c.told, fmt.Sprintf(format, args...))
	c.more <- struct{}{}
}

func (c *counted) events() Events {
	return Events{Calls: func() { c.note("calls") }, Serves: func() { c.note("serves") }, Refused: func() { c.note("refused") },
		Called: func(method string, code api.Code, took time.Duration) {
			c.note("called %s %q %v", method, code, took >= 0)
		},
		Served: func(method string, failed bool, took time.Duration) {
			c.note("served %s %v %v", method, failed, took >= 0)
		}}
}

// wait returns what is told by n events.
func (c *counted) wait(n int) []string {
	for range n {
		<-c.more
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { c.told = nil }()
	slices.Sort(c.told)
	return c.told
}

func TestEvents(t *testing.T) {
	a, b := newHost(t), newHost(t)
	a.Peerstore().AddAddrs(b.ID(), b.Addrs(), time.Hour)
	seen := &counted{more: make(chan struct{}, 100)}
	f := &fakePeer{id: b.ID()}
	services := f.services()
	services.Events = Events{Serves: seen.events().Serves, Served: seen.events().Served, Refused: seen.events().Refused}
	role := Voter
	if _, err := Serve(b, services, func(peer.ID) Role { return role }); err != nil {
		t.Fatal(err)
	}
	transport := Observed(NewTransport(a), Events{Calls: seen.events().Calls, Called: seen.events().Called})
	c := NewClient(transport)
	if _, err := c.RepoStat(t.Context(), b.ID()); err != nil {
		t.Fatal(err)
	}
	if got, want := seen.wait(4), []string{`called Node.RepoStat "" true`, "calls", "served Node.RepoStat false true", "serves"}; !slices.Equal(got, want) {
		t.Errorf("a question: %q", got)
	}
	for _, err := range c.StatusAll(t.Context(), b.ID(), api.StatusQuery{Limit: 1}) {
		_ = err // it ends with one
	}
	if got, want := seen.wait(4), []string{`called Tracker.StatusEach "" true`, "calls", "served Tracker.StatusEach false true", "serves"}; !slices.Equal(got, want) {
		t.Errorf("a stream: %q", got)
	}
	// A name that somebody made up is not told.
	if err := transport.Call(t.Context(), b.ID(), "Cluster", "Secret", Nothing{}, &Reply[Nothing]{}); err == nil {
		t.Error("it was answered")
	}
	if got, want := seen.wait(4), []string{`called other "unsupported" true`, "calls", "served other true true", "serves"}; !slices.Equal(got, want) {
		t.Errorf("an unknown method: %q", got)
	}
	role = Stranger
	if _, err := c.RepoStat(t.Context(), b.ID()); api.CodeOf(err) != api.CodeForbidden {
		t.Error(err)
	}
	if got, want := seen.wait(3), []string{`called Node.RepoStat "forbidden" true`, "calls", "refused"}; !slices.Equal(got, want) {
		t.Errorf("a stranger: %q", got)
	}
}

// An error that a peer answers has its code, also where the exchange went well.
func TestAnsweredErrorsAreTold(t *testing.T) {
	seen := &counted{more: make(chan struct{}, 100)}
	reply := &Reply[Nothing]{}
	failing := transportFunc(func(out any) error {
		out.(*Reply[Nothing]).Err = api.Errorf(api.CodeNoSpace, "full")
		return nil
	})
	if err := Observed(failing, seen.events()).Call(t.Context(), "", "Cluster", "Pin", Nothing{}, reply); err != nil {
		t.Fatal(err)
	}
	if got := seen.wait(2); got[0] != `called Cluster.Pin "no_space" true` {
		t.Errorf("told %q", got)
	}
}

type transportFunc func(out any) error

func (f transportFunc) Call(_ context.Context, _ peer.ID, _, _ string, _, out any) error {
	return f(out)
}
func (f transportFunc) Stream(_ context.Context, _ peer.ID, _, _ string, _, out any) error {
	return f(out)
}
