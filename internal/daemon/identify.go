package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/p2p/net/pnet"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// What may be at an address instead of a member.
var (
	errNobody  = errors.New("not reached")
	errStrange = errors.New("it accepts connections but does not know the secret")
	// errSecret is an errStrange without a doubt.
	errSecret  = fmt.Errorf("%w: it speaks with another one", errStrange)
	errSelf    = errors.New("that is this peer")
	errWaiting = errors.New("it waits to be admitted, too")
)

// identify learns which peer is at an address. It dials a peer ID that nobody
// has: the handshake then fails, and tells who was there instead. Both ends
// have shown by then that they know the swarm's key. Errors: errNobody,
// errSecret, errStrange, errSelf.
func identify(ctx context.Context, h host.Host, secret []byte, addr multiaddr.Multiaddr) (peer.ID, error) {
	if err := reach(ctx, secret, addr); err != nil {
		return "", err
	}
	if transport, id := peer.SplitAddr(addr); id != "" && transport != nil {
		return id, nil
	}
	nobody, err := NewIdentity()
	if err != nil {
		return "", err
	}
	h.Peerstore().AddAddr(nobody.ID, addr, peerstore.TempAddrTTL)
	defer h.Peerstore().ClearAddrs(nobody.ID)
	err = h.Connect(ctx, peer.AddrInfo{ID: nobody.ID})
	var mismatch sec.ErrPeerIDMismatch
	switch {
	case errors.Is(err, swarm.ErrDialToSelf):
		return "", errSelf
	case err == nil:
		return "", fmt.Errorf("%w: it pretends to be anybody", errStrange)
	case errors.As(err, &mismatch):
		return mismatch.Actual, nil
	case errors.Is(ctx.Err(), context.Canceled):
		return "", fmt.Errorf("%w: %w", errNobody, ctx.Err())
	}
	return "", fmt.Errorf("%w: %w", errStrange, err)
}

// greeting is what a libp2p host sends first to whoever connects to it,
// encrypted with the swarm's key.
const greeting = "\x13/multistream/1.0.0\n"

const greetingTimeout = 2 * time.Second

// reach finds out whether a program listens at an address at all, and whether
// it greets with the same secret. With another one a handshake does not just
// fail: as each end takes noise for lengths, it may wait for its time to be
// over, and then looks like that of a host that is too busy.
func reach(ctx context.Context, secret []byte, addr multiaddr.Multiaddr) error {
	network, at, err := manet.DialArgs(addr)
	if err != nil {
		return fmt.Errorf("%s: %w", addr, err)
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, at)
	if err != nil {
		return fmt.Errorf("%w: %w", errNobody, err)
	}
	defer conn.Close()
	protected, err := pnet.NewProtectedConn(secret, conn)
	if err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(greetingTimeout)); err != nil {
		return err
	}
	heard := make([]byte, len(greeting))
	if _, err := io.ReadFull(protected, heard); err != nil {
		return nil // silent, busy or no libp2p: the handshake will tell
	}
	if string(heard) != greeting {
		return errSecret
	}
	return nil
}
