package libp2ptransport

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p-gostream"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Protocol names what raft speaks between peers.
const Protocol protocol.ID = "/holdfast/raft/1"

type layer struct {
	net.Listener
	host    host.Host
	allowed func(peer.ID) bool
}

// Listen takes raft's streams on a host. Streams of peers that allowed does not
// name are closed at once; nil allows everyone that can reach the host. Who
// dials a peer finds its addresses in the host's peerstore.
func Listen(h host.Host, allowed func(peer.ID) bool) (raft.StreamLayer, error) {
	listener, err := gostream.Listen(h, Protocol)
	if err != nil {
		return nil, fmt.Errorf("listen for raft's streams: %w", err)
	}
	return &layer{Listener: listener, host: h, allowed: allowed}, nil
}

// Accept returns the next stream of an allowed peer.
func (l *layer) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		id, err := peer.Decode(conn.RemoteAddr().String())
		allowed := func() bool { return l.allowed == nil || l.allowed(id) }
		if err == nil && allowed() {
			return guardServed(conn, allowed), nil
		}
		// A stranger, of whom nothing is read (INV-MEMBERS).
		if stream, ok := conn.(interface{ Reset() error }); ok {
			_ = stream.Reset()
		} else {
			_ = conn.Close()
		}
	}
}

// Dial opens a stream to the peer whose ID's text is the address.
func (l *layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, err := peer.Decode(string(address))
	if err != nil {
		return nil, fmt.Errorf("dial raft peer %q: %w", address, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := gostream.Dial(ctx, l.host, id, Protocol)
	if err != nil {
		return nil, fmt.Errorf("dial raft peer %s: %w", id, err)
	}
	return guardDialed(conn), nil
}
