package rpc

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"golang.org/x/time/rate"

	"holdfast/api"
	"holdfast/internal/crowd"
)

// The protocol of those who are no members: one question and one answer, each
// a length of four bytes (big endian) and as much JSON, in which nothing is
// unknown.
const (
	maxQuestion = 64 << 10
	maxAnswer   = 4 << 20 // it lists the members
	doorTime    = 10 * time.Second
	answerTime  = 30 * time.Second
)

// How much strangers may ask. Whoever knows the swarm's secret can be as many
// peers as it likes, so they are counted by their addresses, too. A question has
// a place to be read in until it is whole, and only then one to be answered in:
// who says nothing keeps nobody from asking.
const (
	readAtOnce           = 64
	readAtOncePerAddress = 8
	doorAtOnce           = 32
	doorAtOncePerAddress = 8
	doorAtOncePerPeer    = 2
	doorPerSecond        = 40
	doorBurst            = 80
	hostPerSecond        = 10
	hostBurst            = 40
	hostsKnown           = 1024
)

// door answers the questions of strangers.
type door struct {
	joiner  *joinerService
	refused func() // is told of those who ask too much
	all     *rate.Limiter
	reading *crowd.Crowd[network.Stream]

	mu        sync.Mutex
	asked     int
	peers     map[peer.ID]int
	addresses map[netip.Prefix]int
	hosts     map[netip.Prefix]*rate.Limiter
}

func newDoor(services Services) *door {
	return &door{joiner: &joinerService{joiner: services.Joiner}, refused: services.Events.refused, all: rate.NewLimiter(doorPerSecond, doorBurst),
		reading: crowd.New[network.Stream](readAtOnce, readAtOncePerAddress, nil),
		peers:   map[peer.ID]int{}, addresses: map[netip.Prefix]int{}, hosts: map[netip.Prefix]*rate.Limiter{}}
}

// open takes questions from now on.
func (d *door) open(h host.Host) {
	h.SetStreamHandler(protocol.ID(api.JoinProtocol), func(s network.Stream) {
		defer s.Close()
		if err := s.SetDeadline(time.Now().Add(doorTime)); err != nil {
			_ = s.Reset()
			return
		}
		reply := d.hear(s)
		_ = s.SetDeadline(time.Now().Add(doorTime))
		if err := writeMessage(s, reply, maxAnswer); err != nil {
			_ = s.Reset()
		}
	})
}

// hear reads a question, and answers it when there is a place for it.
func (d *door) hear(s network.Stream) answer {
	caller, at := s.Conn().RemotePeer(), crowd.AddressOf(s.Conn().RemoteMultiaddr())
	if !d.mayAsk(at) {
		return d.turnAway()
	}
	if out, crowded := d.reading.Add(s, at); crowded {
		_ = out.Reset()
	}
	var q question
	err := readMessage(s, &q, maxQuestion)
	d.reading.Remove(s)
	if err != nil {
		return answer{Error: api.Errorf(api.CodeInvalid, "the question was not understood: %w", err)}
	}
	if !d.enter(caller, at) {
		return d.turnAway()
	}
	defer d.leave(caller, at)
	return d.answer(q, caller)
}

func (d *door) turnAway() answer {
	d.refused()
	return answer{Error: api.Errorf(api.CodeRateLimited, "this peer is asked by too many who are no members of its cluster; try again in a moment")}
}

// mayAsk counts a question against the rates. An address that has not asked for
// a while is heard in any case.
func (d *door) mayAsk(at netip.Prefix) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	of := d.hosts[at]
	if of == nil {
		d.forgetHosts()
		of = rate.NewLimiter(hostPerSecond, hostBurst)
		d.hosts[at] = of
	}
	rested := of.Tokens() >= hostBurst
	return of.Allow() && (d.all.Allow() || rested)
}

// forgetHosts makes room for one more address, with those that have rested first.
func (d *door) forgetHosts() {
	if len(d.hosts) < hostsKnown {
		return
	}
	maps.DeleteFunc(d.hosts, func(_ netip.Prefix, of *rate.Limiter) bool { return of.Tokens() >= hostBurst })
	for at := range d.hosts {
		if len(d.hosts) < hostsKnown {
			return
		}
		delete(d.hosts, at)
	}
}

// enter gives a question a place to be answered in, if there is one.
func (d *door) enter(caller peer.ID, at netip.Prefix) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked >= doorAtOnce || d.addresses[at] >= doorAtOncePerAddress || d.peers[caller] >= doorAtOncePerPeer {
		return false
	}
	d.asked++
	d.addresses[at]++
	d.peers[caller]++
	return true
}

func (d *door) leave(caller peer.ID, at netip.Prefix) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked--
	if d.addresses[at]--; d.addresses[at] == 0 {
		delete(d.addresses, at)
	}
	if d.peers[caller]--; d.peers[caller] == 0 {
		delete(d.peers, caller)
	}
}

// answer says what there is to say.
func (d *door) answer(q question, caller peer.ID) answer {
	ctx, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	ctx = context.WithValue(ctx, rpc.ContextKeyRequestSender, caller)
	switch {
	case q.Join != nil && q.Standing == nil:
		request, err := q.Join.request()
		if err != nil {
			return answer{Error: api.AsError(err)}
		}
		var reply Reply[api.JoinReply]
		_ = d.joiner.Join(ctx, request, &reply) // its error is in the reply
		return newAnswer(reply)
	case q.Standing != nil && q.Join == nil:
		var reply Reply[api.Standing]
		_ = d.joiner.Standing(ctx, Nothing{}, &reply) // its error is in the reply
		return answer{Error: reply.Err, Standing: (*standingMessage)(&reply.Value)}
	}
	return answer{Error: api.Errorf(api.CodeInvalid, "the question asks nothing, or two things at once")}
}

// knock asks a member, as one that it may not know.
func (t *libp2pTransport) knock(ctx context.Context, to peer.ID, method string, in, out any) error {
	s, err := t.host.NewStream(ctx, to, protocol.ID(api.JoinProtocol))
	if err != nil {
		speaks, _ := t.host.Peerstore().SupportsProtocols(to, api.RPCProtocol, api.JoinProtocol)
		if slices.Equal(speaks, []protocol.ID{api.RPCProtocol}) { // a member of an older version is asked over rpc
			return wireError(to, t.client.CallContext(ctx, to, serviceCluster, method, in, out))
		}
		return wireError(to, err)
	}
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	var q question
	switch in := in.(type) {
	case api.JoinRequest:
		q.Join = newJoinMessage(in)
	case Nothing:
		q.Standing = &Nothing{}
	}
	var a answer
	err = writeMessage(s, q, maxQuestion)
	if err == nil {
		err = readMessage(s, &a, maxAnswer)
	}
	if err != nil {
		_ = s.Reset()
		return wireError(to, errors.Join(ctx.Err(), err))
	}
	if err := a.into(out); err != nil {
		return wireError(to, err)
	}
	return s.Close()
}

// readMessage reads a message of bounded length.
func readMessage(r io.Reader, out any, limit uint32) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("read the length: %w", err)
	}
	length := binary.BigEndian.Uint32(head[:])
	if length == 0 || length > limit {
		return fmt.Errorf("it claims %d bytes, and may have %d", length, limit)
	}
	decoder := json.NewDecoder(io.LimitReader(r, int64(length)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(out); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	if decoder.InputOffset() != int64(length) {
		return errors.New("something follows its end")
	}
	return nil
}

func writeMessage(w io.Writer, in any, limit int) error {
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	if len(text) > limit {
		return fmt.Errorf("it has %d bytes, and may have %d", len(text), limit)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...))
	return err
}
