package daemon

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

// timelessTLS is libp2p's TLS with certificates that are valid at any time.
// Those that libp2p makes begin an hour before the process started, so a peer
// whose clock was off by more could speak to nobody, and nobody to it. Peers are
// known by their keys, which do not end; a certificate says nothing else, and
// is made anew by each process.
type timelessTLS struct {
	id       protocol.ID
	self     peer.ID
	identity *libp2ptls.Identity
	muxers   []string
}

func newTimelessTLS(id protocol.ID, key crypto.PrivKey, muxers []upgrader.StreamMuxer) (*timelessTLS, error) {
	self, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	if err != nil {
		return nil, err
	}
	identity, err := libp2ptls.NewIdentity(key, libp2ptls.WithCertTemplate(&x509.Certificate{SerialNumber: serial,
		NotBefore: time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: never}))
	if err != nil {
		return nil, fmt.Errorf("certificate of the cluster swarm: %w", err)
	}
	t := &timelessTLS{id: id, self: self, identity: identity}
	for _, m := range muxers {
		t.muxers = append(t.muxers, string(m.ID))
	}
	return t, nil
}

// ID is the protocol's, which is that of libp2p's TLS.
func (t *timelessTLS) ID() protocol.ID { return t.id }

// SecureInbound shakes hands as the server.
func (t *timelessTLS) SecureInbound(ctx context.Context, raw net.Conn, from peer.ID) (sec.SecureConn, error) {
	return t.secure(ctx, raw, from, tls.Server)
}

// SecureOutbound shakes hands as the client.
func (t *timelessTLS) SecureOutbound(ctx context.Context, raw net.Conn, to peer.ID) (sec.SecureConn, error) {
	return t.secure(ctx, raw, to, tls.Client)
}

// secure shakes hands; libp2p's configuration verifies the other end's key. An
// empty ID accepts any peer.
func (t *timelessTLS) secure(ctx context.Context, raw net.Conn, other peer.ID, side func(net.Conn, *tls.Config) *tls.Conn) (sec.SecureConn, error) {
	config, keys := t.identity.ConfigForPeer(other)
	plain := config.NextProtos // says that no multiplexer is agreed on yet
	config.NextProtos = append(append([]string{}, t.muxers...), plain...)
	conn := side(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	key, ok := <-keys // there already: the handshake waited for it
	if !ok {
		return nil, errors.Join(errors.New("TLS handshake without a key of the other peer"), raw.Close())
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	state := network.ConnectionState{}
	for _, muxer := range t.muxers {
		if conn.ConnectionState().NegotiatedProtocol == muxer {
			state = network.ConnectionState{StreamMultiplexer: protocol.ID(muxer), UsedEarlyMuxerNegotiation: true}
		}
	}
	return &secureConn{Conn: conn, self: t.self, other: id, key: key, state: state}, nil
}

// secureConn is a connection whose other end is known.
type secureConn struct {
	*tls.Conn
	self, other peer.ID
	key         crypto.PubKey
	state       network.ConnectionState
}

// LocalPeer is part of libp2p's interface, as are the following.
func (c *secureConn) LocalPeer() peer.ID { return c.self }

// RemotePeer is who is at the other end, by its key.
func (c *secureConn) RemotePeer() peer.ID { return c.other }

// RemotePublicKey is that key.
func (c *secureConn) RemotePublicKey() crypto.PubKey { return c.key }

// ConnState is what was agreed on.
func (c *secureConn) ConnState() network.ConnectionState { return c.state }
