package sim

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"
)

// raftLink is raft's way from one process to the others. Unlike
// raft.InmemTransport it loses and delays answers as well as requests, in each
// direction by itself, and a process that has crashed answers nothing any more,
// not even what it was asked before.
type raftLink struct {
	net      *network
	inc      *incarnation
	consumer chan raft.RPC
	allowed  atomic.Pointer[func(peer.ID) bool] // nil: nobody listens yet
	names    map[raft.ServerAddress]peer.ID     // what addresses were decoded to; guarded by naming
	naming   sync.Mutex
	closed   chan struct{} // by raft or by a crash
	close    sync.Once
}

// raftTimeout is that of production's transport.
const raftTimeout = 2 * time.Second

// pipelineDepth is how many messages a pipeline takes before it blocks, as in
// raft's own network transport.
const pipelineDepth = 128

var (
	errLost    = errors.New("no answer in time")
	errClosed  = errors.New("this end is closed")
	errRefused = errors.New("connection refused")
	errReset   = errors.New("connection reset")
)

func newRaftLink(net *network, inc *incarnation) *raftLink {
	return &raftLink{net: net, inc: inc, consumer: make(chan raft.RPC), names: map[raft.ServerAddress]peer.ID{}, closed: make(chan struct{})}
}

func (l *raftLink) id() peer.ID { return l.inc.peer.ID }

// decode returns whose address it is.
func (l *raftLink) decode(address raft.ServerAddress) (peer.ID, error) {
	l.naming.Lock()
	defer l.naming.Unlock()
	if id, known := l.names[address]; known {
		return id, nil
	}
	id, err := peer.Decode(string(address))
	if err != nil {
		return "", fmt.Errorf("address %q: %w", address, err)
	}
	l.names[address] = id
	return id, nil
}

// Close ends all that is under way.
func (l *raftLink) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

func (l *raftLink) Consumer() <-chan raft.RPC          { return l.consumer }
func (l *raftLink) LocalAddr() raft.ServerAddress      { return l.inc.peer.address }
func (l *raftLink) SetHeartbeatHandler(func(raft.RPC)) {}

func (l *raftLink) EncodePeer(_ raft.ServerID, addr raft.ServerAddress) []byte { return []byte(addr) }
func (l *raftLink) DecodePeer(data []byte) raft.ServerAddress                  { return raft.ServerAddress(data) }

// message is one question on its way. Most of what happens in a simulation is
// a message, so one timer serves it for all that it waits for.
type message struct {
	to       peer.ID
	command  any
	reader   io.Reader
	answer   chan raft.RPCResponse
	deadline time.Time
	timer    *time.Timer
	cancel   <-chan struct{} // nil: only the deadline ends it
	target   *raftLink
}

func (l *raftLink) message(target raft.ServerAddress, command any, reader io.Reader, timeout time.Duration) (*message, error) {
	to, err := l.decode(target)
	if err != nil {
		return nil, err
	}
	return &message{to: to, command: command, reader: reader, answer: make(chan raft.RPCResponse, 1), deadline: time.Now().Add(timeout)}, nil
}

// after returns a channel that tells when a time has passed, in place of what
// the last call returned.
func (m *message) after(d time.Duration) <-chan time.Time {
	if m.timer == nil {
		m.timer = time.NewTimer(d)
	} else {
		m.timer.Reset(d)
	}
	return m.timer.C
}

// end frees what the message holds.
func (m *message) end() {
	if m.timer != nil {
		m.timer.Stop()
	}
}

// wait lets a message's time pass.
func (l *raftLink) wait(m *message, delay time.Duration, lost bool) error {
	left := time.Until(m.deadline)
	lost = lost || delay > left
	if lost {
		delay = left
	}
	select {
	case <-m.after(delay):
		if lost {
			return errLost
		}
		return nil
	case <-m.cancel:
		return errClosed
	case <-l.closed:
		return errClosed
	}
}

// send brings a message to the other side's door.
func (l *raftLink) send(m *message) error {
	delay, lost := l.net.fate(l.id(), m.to)
	if err := l.wait(m, delay, lost); err != nil {
		return err
	}
	target := l.net.find(m.to)
	if target == nil || target.raft == nil {
		return errRefused
	}
	m.target = target.raft
	if allowed := m.target.allowed.Load(); allowed == nil || !(*allowed)(l.id()) {
		return errRefused
	}
	request := raft.RPC{Command: m.command, Reader: m.reader, RespChan: m.answer}
	select {
	case m.target.consumer <- request: // somebody waits for it
		return nil
	default:
	}
	select {
	case m.target.consumer <- request:
		return nil
	case <-m.after(time.Until(m.deadline)):
		return errLost
	case <-m.target.closed:
		return errReset
	case <-m.cancel:
		return errClosed
	case <-l.closed:
		return errClosed
	}
}

// receive waits for the answer of a message that was sent.
func (l *raftLink) receive(m *message) (any, error) {
	var response raft.RPCResponse
	select {
	case response = <-m.answer:
	case <-m.after(time.Until(m.deadline)):
		return nil, errLost
	case <-m.target.closed:
		return nil, errReset
	case <-m.cancel:
		return nil, errClosed
	case <-l.closed:
		return nil, errClosed
	}
	delay, lost := l.net.fate(m.to, l.id())
	if m.target.inc.crashed() {
		return nil, errReset
	}
	if err := l.wait(m, delay, lost); err != nil {
		return nil, err
	}
	return response.Response, response.Error
}

func (l *raftLink) call(target raft.ServerAddress, command any, reader io.Reader, timeout time.Duration) (any, error) {
	m, err := l.message(target, command, reader, timeout)
	if err != nil {
		return nil, err
	}
	defer m.end()
	if err := l.send(m); err != nil {
		return nil, err
	}
	return l.receive(m)
}

func (l *raftLink) AppendEntries(_ raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	l.net.led(args.Term, l.id())
	return into(resp)(l.call(target, args, nil, raftTimeout))
}

func (l *raftLink) RequestVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	return into(resp)(l.call(target, args, nil, raftTimeout))
}

func (l *raftLink) RequestPreVote(_ raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	return into(resp)(l.call(target, args, nil, raftTimeout))
}

func (l *raftLink) TimeoutNow(_ raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	return into(resp)(l.call(target, args, nil, raftTimeout))
}

func (l *raftLink) InstallSnapshot(_ raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	to, err := l.decode(target)
	if err != nil {
		return err
	}
	l.net.led(args.Term, l.id())
	l.net.snapshots.Add(1)
	return into(resp)(l.call(target, args, &snapshotStream{Reader: data, link: l, to: to}, 10*raftTimeout))
}

// snapshotStream breaks off when the link does.
type snapshotStream struct {
	io.Reader
	link *raftLink
	to   peer.ID
}

func (s *snapshotStream) Read(p []byte) (int, error) {
	if len(p) > 4096 {
		p = p[:4096]
	}
	if _, lost := s.link.net.fate(s.link.id(), s.to); lost || s.link.inc.crashed() {
		return 0, errLost
	}
	return s.Reader.Read(p)
}

// into copies an answer.
func into[T any](resp *T) func(any, error) error {
	return func(answer any, err error) error {
		if err != nil {
			return err
		}
		got, ok := answer.(*T)
		if !ok {
			return fmt.Errorf("answer of type %T", answer)
		}
		*resp = *got
		return nil
	}
}

// AppendEntriesPipeline sends entries before earlier ones are answered, in
// their order.
func (l *raftLink) AppendEntriesPipeline(_ raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p := &pipeline{link: l, target: target, outgoing: make(chan *appendFuture, pipelineDepth), sent: make(chan *appendFuture, pipelineDepth),
		done: make(chan raft.AppendFuture, pipelineDepth), stop: make(chan struct{})}
	p.running.Go(p.send)
	p.running.Go(p.receive)
	return p, nil
}

type pipeline struct {
	link     *raftLink
	target   raft.ServerAddress
	outgoing chan *appendFuture
	sent     chan *appendFuture
	done     chan raft.AppendFuture
	stop     chan struct{}
	once     sync.Once
	running  sync.WaitGroup
}

type appendFuture struct {
	start   time.Time
	args    *raft.AppendEntriesRequest
	resp    *raft.AppendEntriesResponse
	message *message
	err     error
	ready   chan struct{}
}

func (f *appendFuture) Error() error                          { <-f.ready; return f.err }
func (f *appendFuture) Start() time.Time                      { return f.start }
func (f *appendFuture) Request() *raft.AppendEntriesRequest   { return f.args }
func (f *appendFuture) Response() *raft.AppendEntriesResponse { return f.resp }

func (p *pipeline) AppendEntries(args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.link.net.led(args.Term, p.link.id())
	m, err := p.link.message(p.target, args, nil, raftTimeout)
	if err != nil {
		return nil, err
	}
	m.cancel = p.stop
	f := &appendFuture{start: time.Now(), args: args, resp: resp, message: m, ready: make(chan struct{})}
	select {
	case p.outgoing <- f:
		return f, nil
	case <-p.stop:
		return nil, raft.ErrPipelineShutdown
	case <-p.link.closed:
		return nil, errClosed
	}
}

func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.done }

func (p *pipeline) Close() error {
	p.once.Do(func() { close(p.stop) })
	p.running.Wait()
	return nil
}

func (p *pipeline) send() {
	for {
		select {
		case f := <-p.outgoing:
			f.err = p.link.send(f.message)
			select {
			case p.sent <- f:
			case <-p.stop:
				return
			}
		case <-p.stop:
			return
		}
	}
}

func (p *pipeline) receive() {
	for {
		select {
		case f := <-p.sent:
			if f.err == nil {
				f.err = into(f.resp)(p.link.receive(f.message))
			}
			f.message.end()
			close(f.ready)
			select {
			case p.done <- f:
			case <-p.stop:
				return
			}
		case <-p.stop:
			return
		}
	}
}
