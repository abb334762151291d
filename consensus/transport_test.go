package consensus

import (
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// pipeLayer connects transports through net.Pipe.
type pipeLayer struct {
	name    string
	network map[string]*pipeLayer
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

type pipeAddr string

func (pipeAddr) Network() string  { return "pipe" }
func (a pipeAddr) String() string { return string(a) }

func (p *pipeLayer) Addr() net.Addr { return pipeAddr(p.name) }

func (p *pipeLayer) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeLayer) Dial(address raft.ServerAddress, _ time.Duration) (net.Conn, error) {
	other := p.network[string(address)]
	if other == nil {
		return nil, errors.New("no such peer")
	}
	ours, theirs := net.Pipe()
	select {
	case other.conns <- theirs:
		return ours, nil
	case <-other.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipeLayer) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func pipes(names ...string) map[string]*pipeLayer {
	network := map[string]*pipeLayer{}
	for _, name := range names {
		network[name] = &pipeLayer{name: name, network: network, conns: make(chan net.Conn), closed: make(chan struct{})}
	}
	return network
}

// hashicorp/raft#695: heartbeats reach raft through the consumer channel, that
// is on its main goroutine, whatever handler raft sets.
func TestHeartbeatsGoThroughTheConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := pipes("a", "b")
		a, b := NewTransport(TransportConfig{Layer: network["a"]}), NewTransport(TransportConfig{Layer: network["b"]})
		b.SetHeartbeatHandler(func(raft.RPC) { t.Error("a heartbeat took the short cut") })
		answered := make(chan error, 1)
		request := &raft.AppendEntriesRequest{RPCHeader: raft.RPCHeader{Addr: []byte("a")}, Term: 1, Leader: []byte("a")}
		var response raft.AppendEntriesResponse
		go func() { answered <- a.AppendEntries("b", "b", request, &response) }()
		rpc := <-b.Consumer()
		rpc.Respond(&raft.AppendEntriesResponse{Term: 7, Success: true}, nil)
		if err := <-answered; err != nil || response.Term != 7 {
			t.Fatalf("%+v, %v", response, err)
		}
		if a.LocalAddr() != "a" || string(a.EncodePeer("b", "b")) != "b" {
			t.Error("the address is not the layer's")
		}
		closeAll(t, a, b)
	})
}

func closeAll(t *testing.T, transports ...raft.Transport) {
	t.Helper()
	for _, transport := range transports {
		if err := transport.(raft.WithClose).Close(); err != nil {
			t.Error(err)
		}
	}
}

// recordingTransport has no pre-vote and cannot be closed.
type recordingTransport struct {
	raft.Transport
	handler bool
}

func (r *recordingTransport) SetHeartbeatHandler(func(raft.RPC)) { r.handler = true }

func TestFenceKeepsWhatTheTransportCan(t *testing.T) {
	_, memory := raft.NewInmemTransport("")
	fenced := fenceTransport(memory)
	if _, ok := fenced.(raft.WithPreVote); !ok {
		t.Error("pre-vote is gone")
	}
	if fenceTransport(fenced) != fenced {
		t.Error("a fenced transport is fenced again")
	}
	plain := &recordingTransport{Transport: memory}
	fenced = fenceTransport(plain)
	if _, ok := fenced.(raft.WithPreVote); ok {
		t.Error("pre-vote came from nowhere")
	}
	fenced.SetHeartbeatHandler(func(raft.RPC) {})
	if plain.handler {
		t.Error("the heartbeat handler was set")
	}
	if err := fenced.Close(); err != nil {
		t.Error(err)
	}
}

func TestPipelineAndPreVoteTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := pipes("a", "b")
		a, b := NewTransport(TransportConfig{Layer: network["a"]}), NewTransport(TransportConfig{Layer: network["b"]})
		quit := make(chan struct{})
		go func() {
			for {
				select {
				case rpc := <-b.Consumer():
					switch rpc.Command.(type) {
					case *raft.RequestPreVoteRequest:
						rpc.Respond(&raft.RequestPreVoteResponse{Granted: true}, nil)
					default:
						rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
					}
				case <-quit:
					return
				}
			}
		}()
		var granted raft.RequestPreVoteResponse
		if err := a.(raft.WithPreVote).RequestPreVote("b", "b", &raft.RequestPreVoteRequest{}, &granted); err != nil || !granted.Granted {
			t.Errorf("pre-vote %+v, %v", granted, err)
		}
		pipeline, err := a.AppendEntriesPipeline("b", "b")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := pipeline.AppendEntries(&raft.AppendEntriesRequest{Entries: entries(1, 1, 1)}, new(raft.AppendEntriesResponse)); err != nil {
				t.Fatal(err)
			}
			if done := <-pipeline.Consumer(); done.Error() != nil || !done.Response().Success {
				t.Errorf("append %+v, %v", done.Response(), done.Error())
			}
		}
		if err := pipeline.Close(); err != nil {
			t.Error(err)
		}
		close(quit)
		closeAll(t, a, b)
	})
}

// Closing must not wait for a message that nobody answers, even one that may
// take hours, as a big snapshot may.
func TestCloseCutsConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := pipes("a", "b")
		a, b := NewTransport(TransportConfig{Layer: network["a"]}), NewTransport(TransportConfig{Layer: network["b"]})
		failed := make(chan error, 1)
		go func() {
			failed <- a.InstallSnapshot("b", "b", &raft.InstallSnapshotRequest{Size: 1 << 40}, new(raft.InstallSnapshotResponse), endless{})
		}()
		rpc := <-b.Consumer() // and no answer
		if rpc.Reader == nil {
			t.Error("no snapshot came")
		}
		synctest.Wait()
		begin := time.Now()
		closeAll(t, a)
		if err := <-failed; err == nil || time.Since(begin) > time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		if _, err := network["a"].Accept(); err == nil {
			t.Error("it still listens")
		}
		closeAll(t, b)
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestTimeoutHasAFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := pipes("a", "b")
		a, b := NewTransport(TransportConfig{Layer: network["a"], Timeout: time.Millisecond}), NewTransport(TransportConfig{Layer: network["b"]})
		failed := make(chan error, 1)
		begin := time.Now()
		go func() {
			failed <- a.AppendEntries("b", "b", &raft.AppendEntriesRequest{}, new(raft.AppendEntriesResponse))
		}()
		<-b.Consumer()
		if err := <-failed; err == nil || time.Since(begin) != minTransportTimeout {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		closeAll(t, a, b)
	})
}
