package daemon

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	libp2ptls "github.com/libp2p/go-libp2p/p2p/security/tls"
)

func timelessHost(t *testing.T, info ClusterInfo) host.Host {
	t.Helper()
	identity, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	h, err := newHost(identity, info, []string{"/ip4/127.0.0.1/tcp/0"}, nil, joinConnections, "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// Peers whose clocks are far apart accept one another's certificates, and
// still only those of the peer that they mean to reach.
func TestSwarmWithWrongClocks(t *testing.T) {
	identity, err := NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	transport, err := newTimelessTLS(libp2ptls.ID, identity.Key, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, _ := transport.identity.ConfigForPeer("")
	certificate, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	certificate.UnhandledCriticalExtensions = nil // libp2p's own
	for _, clock := range []time.Time{time.Unix(0, 0), time.Now().Add(-90 * time.Minute), time.Now(), time.Now().Add(90 * time.Minute), time.Now().AddDate(200, 0, 0)} {
		if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: clock}); err != nil {
			t.Errorf("a peer whose clock says %s does not accept the certificate: %v", clock, err)
		}
	}

	info := NewClusterInfo()
	a, b, c := timelessHost(t, info), timelessHost(t, info), timelessHost(t, info)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := a.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		t.Fatal(err)
	}
	for _, conn := range a.Network().ConnsToPeer(b.ID()) {
		if state := conn.ConnState(); state.Security != libp2ptls.ID || !state.UsedEarlyMuxerNegotiation || !b.ID().MatchesPublicKey(conn.RemotePublicKey()) {
			t.Errorf("the connection is %+v with %s", state, conn.RemotePeer())
		}
	}
	err = a.Connect(ctx, peer.AddrInfo{ID: c.ID(), Addrs: b.Addrs()})
	var mismatch sec.ErrPeerIDMismatch
	if !errors.As(err, &mismatch) || mismatch.Actual != b.ID() {
		t.Errorf("at the address of another peer: %v", err)
	}
}
