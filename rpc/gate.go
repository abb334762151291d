package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/ugorji/go/codec"

	"holdfast/internal/msgpack"
)

// What one message may be. Members are believed in what they say, but none of
// them may end another's process with it.
var (
	requestLimits = msgpack.Limits{Depth: 32, Cost: 16 << 20}
	// The peers of an older version send lists whole.
	replyLimits = msgpack.Limits{Depth: 32, Cost: 256 << 20}
)

const (
	// largeMessage is what a message costs that has to wait for its turn; largeAtOnce
	// is how many of one peer have theirs at a time.
	largeMessage = 1 << 20
	largeAtOnce  = 16
	// messageTime is how long a request that has begun to arrive may take.
	messageTime = time.Minute
)

// gate is a host whose streams are safe to give to gorpc, which reads whatever
// comes, for whomever, before it asks whether the caller may call at all.
type gate struct {
	host.Host
	isMember func(peer.ID) bool // nil: nobody calls
	refused  func()             // is told of strangers

	mu    sync.Mutex
	turns map[peer.ID]chan struct{} // of large messages
}

// SetStreamHandler serves members. Nothing of what others say is read (INV-MEMBERS).
func (g *gate) SetStreamHandler(id protocol.ID, serve network.StreamHandler) {
	g.Host.SetStreamHandler(id, func(s network.Stream) {
		caller := s.Conn().RemotePeer()
		if !g.isMember(caller) {
			g.refused()
			refuse(s)
			return
		}
		guarded := &guardedStream{Stream: s, scanner: msgpack.NewScanner(requestLimits), turn: g.turnsOf(caller),
			isMember: func() bool { return g.isMember(caller) }}
		defer guarded.leave()
		guarded.expect() // a caller says at once what it calls
		serve(guarded)
	})
}

// NewStream opens a stream whose answers are checked.
func (g *gate) NewStream(ctx context.Context, to peer.ID, ids ...protocol.ID) (network.Stream, error) {
	s, err := g.Host.NewStream(ctx, to, ids...)
	if err != nil {
		return nil, err
	}
	return &guardedStream{Stream: s, scanner: msgpack.NewScanner(replyLimits), answers: ctx.Value(streaming{}) != nil}, nil
}

func (g *gate) turnsOf(id peer.ID) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.turns[id] == nil {
		g.turns[id] = make(chan struct{}, largeAtOnce)
	}
	return g.turns[id]
}

// refuse tells a stranger that it is one, in the form in which gorpc would.
func refuse(s network.Stream) {
	_ = s.SetWriteDeadline(time.Now().Add(refuseTime))
	_ = s.CloseRead()
	encoder := codec.NewEncoder(s, new(codec.MsgpackHandle))
	err := encoder.Encode(rpc.Response{Error: "this peer is no member", ErrType: rpc.AuthorizationErr})
	if err == nil {
		err = encoder.Encode(nil)
	}
	if err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

const refuseTime = 5 * time.Second

// streaming marks the context of a call whose answers are many.
type streaming struct{}

// guardedStream ends before a message that its reader could not bear. One
// goroutine reads at a time.
type guardedStream struct {
	network.Stream
	scanner *msgpack.Scanner
	failed  error
	// Of a stream that serves a member.
	isMember func() bool
	turn     chan struct{}
	mu       sync.Mutex
	hasTurn  bool
	served   bool // there is nothing more to wait for
	waited   bool // the message has had to wait; known to who reads
	// answers says that this end called, for many answers: each is a header and a
	// value. gorpc panics when the value is nothing.
	answers bool
	ended   int // messages
}

var (
	errNoMember = errors.New("the caller is no member any more")
	errNoAnswer = errors.New("an answer is missing")
)

// Read returns what has come, up to the first thing that is refused.
func (s *guardedStream) Read(p []byte) (int, error) {
	if s.failed != nil {
		return 0, s.failed
	}
	n, err := s.Stream.Read(p)
	good, refused := s.check(p[:n])
	if refused != nil {
		s.failed = fmt.Errorf("rpc with peer %s: %w", s.Conn().RemotePeer(), refused)
		if good == 0 {
			return 0, s.failed
		}
		return good, nil
	}
	// gorpc takes a header without its value for a whole answer.
	if errors.Is(err, io.EOF) && (s.scanner.Inside() || s.isMember == nil && s.ended%2 == 1) {
		s.failed = io.ErrUnexpectedEOF
		if n == 0 {
			return 0, s.failed
		}
		return n, nil
	}
	return n, err
}

func (s *guardedStream) check(data []byte) (good int, err error) {
	for good < len(data) {
		if !s.scanner.Inside() {
			if err := s.begin(data[good]); err != nil {
				return good, err
			}
		}
		n, ended, err := s.scanner.Next(data[good:])
		good += n
		if err != nil {
			return good, err
		}
		switch {
		case ended:
			s.end()
		case s.turn != nil && !s.waited && s.scanner.Cost() > largeMessage:
			s.waited = true
			if err := s.awaitTurn(); err != nil {
				return good, err
			}
		}
	}
	return good, nil
}

func (s *guardedStream) begin(code byte) error {
	switch {
	case s.isMember != nil && !s.isMember():
		return errNoMember
	case s.answers && s.ended%2 == 1 && code == msgpack.Nil:
		return errNoAnswer
	}
	if s.isMember != nil && s.ended > 0 {
		s.expect()
	}
	return nil
}

func (s *guardedStream) end() {
	s.ended++
	s.waited = false
	s.endTurn()
	if s.isMember != nil {
		_ = s.SetReadDeadline(time.Time{}) // the next one may take its time to begin
	}
}

// expect bounds the time until the end of a message.
func (s *guardedStream) expect() { _ = s.SetReadDeadline(time.Now().Add(messageTime)) }

func (s *guardedStream) awaitTurn() error {
	timer := time.NewTimer(messageTime)
	defer timer.Stop()
	select {
	case s.turn <- struct{}{}:
	case <-timer.C:
		return errors.New("too many large messages at once")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.served {
		<-s.turn
		return net.ErrClosed
	}
	s.hasTurn = true
	return nil
}

func (s *guardedStream) endTurn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hasTurn {
		s.hasTurn = false
		<-s.turn
	}
}

// leave ends the use of the stream; gorpc may still be reading for a moment.
func (s *guardedStream) leave() {
	s.endTurn()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served = true
}
