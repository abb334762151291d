package consensus

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	minTransportTimeout     = time.Second
	defaultTransportTimeout = 2 * time.Second
	connectionPool          = 3 // per peer: log entries, heartbeats, votes
)

// TransportConfig says how raft's messages travel.
type TransportConfig struct {
	Layer raft.StreamLayer // its address is the peer ID's text; closed with the transport
	// Timeout of one message (2 s, at least 1 s: a follower answers after its
	// fsync). A snapshot has this long for every 256 KiB.
	Timeout time.Duration
	Logger  *slog.Logger
}

// NewTransport carries raft's messages over streams, keeping connections
// open between them. It listens until Log.Run, which it is handed to, closes it.
func NewTransport(config TransportConfig) raft.Transport {
	setDefault(&config.Timeout, defaultTransportTimeout)
	logger := orDiscard(config.Logger)
	layer := &closingLayer{StreamLayer: config.Layer, open: map[*closingConn]struct{}{}}
	return fenceTransport(raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Logger:                  raftLogger{out: logger, name: "raft-net"},
		Stream:                  layer,
		MaxPool:                 connectionPool,
		Timeout:                 max(config.Timeout, minTransportTimeout),
		MsgpackUseNewTimeFormat: true,
	}))
}

// fencedTransport keeps heartbeats on raft's main goroutine. With a heartbeat
// handler a transport calls into raft from its own goroutines, which change
// term and state under the main loop's feet (hashicorp/raft#695: logs diverge).
// The price is that a heartbeat waits behind the follower's fsync.
type fencedTransport struct {
	raft.Transport
	pipelines *pipelines
}

// AppendEntriesPipeline opens a pipeline to a peer.
func (t fencedTransport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	return t.pipelines.add(t.Transport.AppendEntriesPipeline(id, target))
}

// SetHeartbeatHandler does nothing.
func (fencedTransport) SetHeartbeatHandler(func(raft.RPC)) {}

// Close closes the transport if it can be closed.
func (t fencedTransport) Close() error {
	t.pipelines.close()
	if closer, ok := t.Transport.(raft.WithClose); ok {
		return closer.Close()
	}
	return nil
}

// preVoteTransport is a fencedTransport whose transport has pre-votes; raft
// finds that out by a type assertion.
type preVoteTransport struct {
	fencedTransport
	raft.WithPreVote
}

type closableTransport interface {
	raft.Transport
	raft.WithClose
}

// fenceTransport wraps a transport once.
func fenceTransport(t raft.Transport) closableTransport {
	switch t := t.(type) {
	case fencedTransport:
		return t
	case preVoteTransport:
		return t
	}
	if preVote, ok := t.(raft.WithPreVote); ok {
		return preVoteTransport{fencedTransport{t, newPipelines()}, preVote}
	}
	return fencedTransport{t, newPipelines()}
}

// closingLayer closes its connections when it is closed. Raft closes only the
// listener, and a shutdown in the middle of a snapshot would wait for hours.
type closingLayer struct {
	raft.StreamLayer

	mu     sync.Mutex
	closed bool
	open   map[*closingConn]struct{}
}

func (l *closingLayer) Accept() (net.Conn, error) { return l.add(l.StreamLayer.Accept()) }

func (l *closingLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return l.add(l.StreamLayer.Dial(address, timeout))
}

func (l *closingLayer) add(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	tracked := &closingConn{Conn: conn, layer: l}
	l.open[tracked] = struct{}{}
	return tracked, nil
}

func (l *closingLayer) Close() error {
	l.mu.Lock()
	open := l.open
	l.open, l.closed = nil, true
	l.mu.Unlock()
	errs := []error{l.StreamLayer.Close()}
	for conn := range open {
		errs = append(errs, conn.abort())
	}
	return errors.Join(errs...)
}

type closingConn struct {
	net.Conn
	layer *closingLayer
}

func (c *closingConn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.open, c)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}

// abort ends the connection at once. Close of a libp2p stream is polite: it
// still delivers what was written.
func (c *closingConn) abort() error {
	if stream, ok := c.Conn.(interface{ Reset() error }); ok {
		return stream.Reset()
	}
	return c.Conn.Close()
}

func orDiscard(logger *slog.Logger) *slog.Logger {
	if logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return logger
}
