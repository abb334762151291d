package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/errgroup"

	"holdfast/api"
)

// How often addresses that a peer was told are tried while members are missing:
// more and more seldom, as libp2p refuses addresses from which many come.
const (
	hintFirstPause = 2 * time.Second
	hintLastPause  = 30 * time.Second
)

// parseHints reads addresses of other peers' cluster swarms.
func parseHints(texts []string) ([]multiaddr.Multiaddr, error) {
	var out []multiaddr.Multiaddr
	for _, text := range texts {
		addr, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "cluster.peer_addresses or --join: %q is not a multiaddr such as /dns4/peer0/tcp/9096: %w", text, err)
		}
		out = append(out, addr)
	}
	return out, nil
}

// followHints tries the addresses that this peer was told, while it misses
// members: theirs may have changed together with its own, so that the records
// of the cluster help nobody. Who is met there and is a member is connected;
// once there is a leader, every member stores its own new addresses.
func (d *Daemon) followHints(ctx context.Context, hints []multiaddr.Multiaddr) error {
	for pause := hintFirstPause; ; pause = min(2*pause, hintLastPause) {
		if d.missesMembers() {
			sideBySide(hints, func(at multiaddr.Multiaddr) {
				if err := d.followHint(ctx, at); err != nil && ctx.Err() == nil {
					d.logger.Debug("no member met at an address that this peer was told", "at", at, "err", err)
				}
			})
		} else {
			pause = hintFirstPause
		}
		if !sleep(ctx, pause) {
			return nil
		}
	}
}

// sideBySide does something with each of a list, with a few at a time, so that
// where nobody answers does not hold up the rest.
func sideBySide[T any](all []T, do func(T)) {
	var work errgroup.Group
	work.SetLimit(dialsAtOnce)
	for _, one := range all {
		work.Go(func() error { do(one); return nil })
	}
	_ = work.Wait() // no error is returned
}

func (d *Daemon) missesMembers() bool {
	known, err := d.trust.known()
	return err == nil && slices.ContainsFunc(known, func(m api.Member) bool {
		return m.ID != d.ID() && d.host.Network().Connectedness(m.ID) != network.Connected
	})
}

// followHint finds out who is at an address, and connects to a member.
func (d *Daemon) followHint(ctx context.Context, at multiaddr.Multiaddr) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	id, err := identify(ctx, d.host, d.opts.Cluster.Secret, at)
	switch {
	case errors.Is(err, errSelf) || id == d.ID():
		return nil
	case err != nil:
		return err
	case !d.trust.isMember(id):
		return api.Errorf(api.CodeForbidden, "%s is not a member", id)
	case d.host.Network().Connectedness(id) == network.Connected:
		return nil
	}
	transport, _ := peer.SplitAddr(at)
	d.host.Peerstore().AddAddr(id, transport, peerstore.PermanentAddrTTL)
	return d.host.Connect(network.WithForceDirectDial(ctx, "told address"), peer.AddrInfo{ID: id})
}
