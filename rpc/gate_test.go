package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/ugorji/go/codec"

	"holdfast/api"
)

func encoded(t testing.TB, values ...any) []byte {
	t.Helper()
	var out []byte
	for _, v := range values {
		var one []byte
		if err := codec.NewEncoderBytes(&one, new(codec.MsgpackHandle)).Encode(v); err != nil {
			t.Fatal(err)
		}
		out = append(out, one...)
	}
	return out
}

// field is a map with one field, whose value is given in its encoding.
func field(name string, value []byte) []byte {
	return slices.Concat([]byte{0x81, 0xa0 | byte(len(name))}, []byte(name), value)
}

func nested(levels int) []byte { return append(bytes.Repeat([]byte{0x91}, levels), 0xc0) }

// promise is the header of a text of 2 GiB.
var promise = []byte{0xdb, 0x7f, 0xff, 0xff, 0xff}

// manyNothings is an array whose elements take a byte each.
func manyNothings(n uint32) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0xdd}, n), bytes.Repeat([]byte{0xc0}, int(n))...)
}

// hostile are messages that no decoder survives without limits.
func hostile(t testing.TB) map[string][]byte {
	pin := encoded(t, rpc.ServiceID{Name: "Cluster", Method: "Pin"})
	bulk := encoded(t, rpc.ServiceID{Name: "Cluster", Method: "Bulk"})
	put := encoded(t, rpc.ServiceID{Name: "Node", Method: "PutBlocks"})
	deep, wide := nested(5_000_000), manyNothings(1_000_000)
	return map[string][]byte{
		"deep name":                       deep,
		"deep field beside the name":      field("x", deep),
		"deep field of the name":          field("Name", deep),
		"endless name":                    promise,
		"endless field of the name":       slices.Concat(field("Name", promise), bytes.Repeat([]byte("x"), 8<<20)),
		"deep request":                    slices.Concat(pin, deep),
		"deep field beside a request's":   slices.Concat(pin, field("x", deep)),
		"endless field beside a request":  slices.Concat(pin, field("x", promise), bytes.Repeat([]byte("x"), 8<<20)),
		"wide request":                    slices.Concat(bulk, wide),
		"wide field beside a request's":   slices.Concat(pin, field("x", wide)),
		"deep batch of blocks":            slices.Concat(put, field("x", deep)),
		"wide batch of blocks":            slices.Concat(put, field("Blocks", wide)),
		"deep batch after an honest one":  slices.Concat(put, encoded(t, api.BlockBatch{}), deep),
		"map of 4 billion":                {0xdf, 0xff, 0xff, 0xff, 0xff},
		"array of 4 billion":              {0xdd, 0xff, 0xff, 0xff, 0xff},
		"a code that begins nothing":      {0xc1},
		"end in the middle of a name":     {0x82, 0xa4, 'N'},
		"a name that nobody has":          encoded(t, rpc.ServiceID{Name: strings.Repeat("x", 100_000), Method: "Pin"}),
		"an extension instead of a name":  {0xc9, 0x00, 0xff, 0xff, 0xff, 0x01},
		"nothing instead of all messages": bytes.Repeat([]byte{0xc0}, 1000),
	}
}

// say writes to a new stream, and returns what comes back before its end.
func say(t testing.TB, from host.Host, to peer.ID, id protocol.ID, data []byte) []byte {
	t.Helper()
	s, err := from.NewStream(t.Context(), to, id)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset()
	if err := s.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = s.Write(data) // it may be refused before its end
		_ = s.CloseWrite()
	}()
	answer, _ := io.ReadAll(io.LimitReader(s, 1<<20))
	return answer
}

// Whatever a peer says, the other one lives and answers the next one; and what
// a stranger says is not even read.
func TestHostileRequests(t *testing.T) {
	caller, callee := newHost(t), newHost(t)
	caller.Peerstore().AddAddrs(callee.ID(), callee.Addrs(), time.Hour)
	var role atomic.Int32
	if _, err := Serve(callee, answerAll(), func(peer.ID) Role { return Role(role.Load()) }); err != nil {
		t.Fatal(err)
	}
	honest := NewClient(NewTransport(caller))
	for name, message := range hostile(t) {
		for _, as := range []Role{Stranger, Learner} {
			role.Store(int32(as))
			answer := say(t, caller, callee.ID(), api.RPCProtocol, message)
			if as == Stranger && len(answer) > 200 {
				t.Errorf("%s: a stranger is told %d bytes", name, len(answer))
			}
			role.Store(int32(Learner))
			if _, err := honest.ReadIndex(t.Context(), callee.ID()); err != nil {
				t.Fatalf("%s, said as %d: the next call fails: %v", name, as, err)
			}
		}
	}
}

// A member that is removed in the middle of a stream is heard no more.
func TestMembershipEndsInTheMiddle(t *testing.T) {
	caller, callee := newHost(t), newHost(t)
	caller.Peerstore().AddAddrs(callee.ID(), callee.Addrs(), time.Hour)
	var role atomic.Int32
	role.Store(int32(Voter))
	if _, err := Serve(callee, answerAll(), func(peer.ID) Role { return Role(role.Load()) }); err != nil {
		t.Fatal(err)
	}
	s := NewClient(NewTransport(caller)).OpenBlocks(t.Context(), callee.ID())
	for range 2 * window {
		if err := s.Put(nil); err != nil {
			t.Fatal(err)
		}
	}
	role.Store(int32(Stranger))
	if err := s.Close(); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("the last batch of a peer that is no member: %v", err)
	}
}

// Whatever a peer answers, who asked lives and is told that the answer is none.
func TestHostileAnswers(t *testing.T) {
	caller, callee := newHost(t), newHost(t)
	caller.Peerstore().AddAddrs(callee.ID(), callee.Addrs(), time.Hour)
	good := encoded(t, rpc.Response{})
	answers := hostile(t)
	for name, message := range hostile(t) {
		answers["after a good header: "+name] = slices.Concat(good, message)
	}
	answers["nothing"] = nil
	answers["a header alone"] = good
	answers["nothing after a header"] = slices.Concat(good, encoded(t, nil))
	answers["text after a header"] = slices.Concat(good, encoded(t, "text"))
	broken := []string{"nothing", "a header alone", "deep name", "deep field beside the name", "endless name",
		"after a good header: deep name", "after a good header: endless name", "after a good header: map of 4 billion"}
	c := NewClient(NewTransport(caller))
	for name, message := range answers {
		callee.SetStreamHandler(api.RPCProtocol, func(s network.Stream) {
			_, _ = s.Write(message) // who asked may not want all of it
			_ = s.Close()
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if _, err := c.Status(ctx, callee.ID(), testCid(t)); err == nil && slices.Contains(broken, name) {
			t.Errorf("%s: taken for an answer", name)
		}
		for _, err := range c.StatusAll(ctx, callee.ID(), api.StatusQuery{}) {
			if err == nil {
				t.Errorf("%s: taken for a status", name)
			}
		}
		var got error
		for _, err := range c.StatusAll(ctx, callee.ID(), api.StatusQuery{}) {
			got = err
		}
		if got == nil {
			t.Errorf("%s: taken for a whole list", name)
		}
		cancel()
	}
}

// Strangers ask a small question at a time, and not many.
func TestDoor(t *testing.T) {
	caller, callee := newHost(t), newHost(t)
	caller.Peerstore().AddAddrs(callee.ID(), callee.Addrs(), time.Hour)
	if _, err := Serve(callee, answerAll(), func(peer.ID) Role { return Stranger }); err != nil {
		t.Fatal(err)
	}
	frame := func(text string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	}
	for name, test := range map[string]struct {
		message []byte
		want    string
	}{
		"nothing":                  {nil, "not understood"},
		"a length of 2 GiB":        {[]byte{0x7f, 0xff, 0xff, 0xff}, "may have"},
		"no length":                {frame(""), "may have"},
		"an unknown field":         {frame(`{"standing":{},"x":1}`), "unknown field"},
		"deep":                     {frame(`{"x":` + strings.Repeat("[", 60_000)), "not understood"},
		"deep in a known field":    {frame(`{"join":{"member":` + strings.Repeat("[", 60_000)), "not understood"},
		"two messages":             {frame(`{"standing":{}}{"standing":{}}`), "follows"},
		"both questions":           {frame(`{"standing":{},"join":{}}`), ""},
		"neither question":         {frame(`{}`), "asks nothing"},
		"msgpack":                  {encoded(t, rpc.ServiceID{Name: "Cluster", Method: "Join"}), "not understood"},
		"for another peer":         {frame(`{"join":{"member":{"id":"` + callee.ID().String() + `"}}}`), "speaks of itself"},
		"a name of 60,000 letters": {frame(`{"join":{"member":{"id":"` + caller.ID().String() + `","name":"` + strings.Repeat("x", 60_000) + `"}}}`), "at most"},
		"an honest question":       {frame(`{"standing":{}}`), `"standing"`},
	} {
		answer := say(t, caller, callee.ID(), api.JoinProtocol, test.message)
		if len(answer) < 4 || !strings.Contains(string(answer), test.want) {
			t.Errorf("%s: answered with %q, want %q", name, answer, test.want)
		}
	}
	limited := 0
	for range 4 * hostBurst {
		if _, err := NewClient(NewTransport(caller)).Standing(t.Context(), callee.ID()); api.CodeOf(err) == api.CodeRateLimited {
			limited++
		}
	}
	if limited < hostBurst {
		t.Errorf("%d of %d questions were too many", limited, 4*hostBurst)
	}
}

// A peer of an older version is asked for all over rpc.
func TestOlderMember(t *testing.T) {
	caller, callee := newHost(t), newHost(t)
	caller.Peerstore().AddAddrs(callee.ID(), callee.Addrs(), time.Hour)
	f := &fakePeer{id: callee.ID()}
	server := rpc.NewServer(callee, api.RPCProtocol)
	if err := server.RegisterName("Cluster", &clusterService{handler: f, joiner: f}); err != nil {
		t.Fatal(err)
	}
	if err := server.RegisterName("Tracker", &olderTracker{trackerService{handler: f}}); err != nil {
		t.Fatal(err)
	}
	if err := server.RegisterName("Node", &olderNode{nodeService{handler: f}}); err != nil {
		t.Fatal(err)
	}
	c := NewClient(NewTransport(caller))
	if _, err := c.AskToJoin(t.Context(), callee.ID(), api.JoinRequest{Member: api.Member{ID: caller.ID()}}); err != nil {
		t.Error(err)
	}
	if _, err := c.Standing(t.Context(), callee.ID()); err != nil {
		t.Error(err)
	}
	if _, err := c.RepoGC(t.Context(), callee.ID()); err != nil {
		t.Error(err)
	}
	items := 0
	for _, err := range c.StatusAll(t.Context(), callee.ID(), api.StatusQuery{Limit: 600}) {
		if items++; err != nil && items <= 600 {
			t.Error(err)
		}
	}
	if items != 601 {
		t.Errorf("%d items", items)
	}
}

// What an older version has of two services.
type olderTracker struct{ service trackerService }

func (o *olderTracker) StatusAll(ctx context.Context, in <-chan api.StatusQuery, out chan<- Reply[[]api.PinInfo]) error {
	return o.service.StatusAll(ctx, in, out)
}

type olderNode struct{ service nodeService }

func (o *olderNode) RepoGC(ctx context.Context, in Nothing, out *Reply[api.RepoGC]) error {
	return o.service.RepoGC(ctx, in, out)
}

// Strangers that open questions and do not ask them keep nobody from asking.
func TestDoorIsNotHeld(t *testing.T) {
	caller, callee := newHost(t), newHost(t)
	caller.Peerstore().AddAddrs(callee.ID(), callee.Addrs(), time.Hour)
	if _, err := Serve(callee, answerAll(), func(peer.ID) Role { return Stranger }); err != nil {
		t.Fatal(err)
	}
	for range doorAtOnce { // of one address, and so no more than its share is kept
		stranger := newHost(t)
		stranger.Peerstore().AddAddrs(callee.ID(), callee.Addrs(), time.Hour)
		s, err := stranger.NewStream(t.Context(), callee.ID(), api.JoinProtocol)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte{0, 0}); err != nil { // it has begun, so that it is heard
			t.Fatal(err)
		}
	}
	if _, err := NewClient(NewTransport(caller)).Standing(t.Context(), callee.ID()); err != nil {
		t.Error(err)
	}
}
