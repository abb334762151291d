package daemon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/config"
	"holdfast/rpc"
)

// Deployment is what the peers of one deployment are told alike, so that each
// founds or joins their cluster by itself. See
// docs/design/0002-first-start-in-a-container.md.
type Deployment struct {
	Secret  DeploymentSecret
	Founder string   // name of the peer that founds the cluster if there is none
	Join    []string // multiaddrs of the cluster swarms of other peers; this peer's own may be among them
}

// Enter makes an empty folder that of a peer of the deployment's cluster: it
// waits until a member admits it, or founds the cluster if that is its part. A
// folder that has a cluster is only checked against the secret.
func Enter(ctx context.Context, dir string, d Deployment, c config.Config, version api.Version, logger *slog.Logger) (Folder, error) {
	if err := EnsureDir(dir); err != nil {
		return Folder{}, err
	}
	unlock, err := awaitFolder(ctx, dir, logger)
	if err != nil {
		return Folder{}, err
	}
	folder, err := enter(ctx, dir, d, c, version, logger)
	return folder, errors.Join(err, unlock())
}

func enter(ctx context.Context, dir string, d Deployment, c config.Config, version api.Version, logger *slog.Logger) (Folder, error) {
	if err := checkWhole(dir); err != nil {
		return Folder{}, err
	}
	info, err := LoadClusterInfo(dir)
	if err == nil {
		if !bytes.Equal(info.Secret, d.Secret.swarmKey()) {
			return Folder{}, api.Errorf(api.CodeForbidden, "the deployment secret is not that of the cluster which the peer in %s belongs to; start it with the secret of its first start", dir)
		}
		return LoadFolder(dir)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return Folder{}, err
	}
	identity, err := EnsureIdentity(dir)
	if err != nil {
		return Folder{}, err
	}
	founds := d.Founder != "" && d.Founder == c.PeerName
	if !founds && len(d.Join) == 0 {
		return Folder{}, api.Errorf(api.CodeInvalid, "%s holds no peer yet, and this peer (%q) is told neither to found the cluster (--founder) nor whom to join (--join)", dir, c.PeerName)
	}
	e := entrance{deployment: d, identity: identity, cfg: c, version: version, logger: logger, met: map[string]peer.ID{}}
	info, err = e.enter(ctx, founds)
	if err != nil {
		return Folder{}, err
	}
	return Folder{Dir: dir, Identity: identity, Cluster: info}, info.Save(dir)
}

// entrance is one attempt of a new peer to get into its cluster.
type entrance struct {
	deployment Deployment
	identity   Identity
	cfg        config.Config
	version    api.Version
	logger     *slog.Logger
	// met is who was at an address. libp2p refuses connections from an address
	// that makes many in a short time, so a peer is met once and then asked over
	// the connection that there is.
	met map[string]peer.ID
}

// How long to wait for what may still come right.
const (
	enterFirstPause = 250 * time.Millisecond
	enterLastPause  = 4 * time.Second
	enterTellEvery  = 30 * time.Second // in the log
	// A founder remembers the credential a moment after it has founded.
	forbiddenPatience = 30 * time.Second
	// A peer that answers a connection but not the swarm's handshake has another
	// secret, or is too busy; so many times in a row it is the secret.
	strangeLimit = 5
	// One whose greeting was heard has another secret; once more, lest the
	// address is about to change hands.
	secretLimit = 2
)

func (e entrance) enter(ctx context.Context, founds bool) (ClusterInfo, error) {
	h, err := newHost(e.identity, ClusterInfo{Secret: e.deployment.Secret.swarmKey()}, e.cfg.ClusterListen, e.cfg.ClusterAnnounce, joinConnections, e.version.Version, nil)
	if err != nil {
		return ClusterInfo{}, err
	}
	defer h.Close()
	h.SetStreamHandler(waitingProtocol, func(s network.Stream) { _ = s.Reset() })
	begun, strange, other, told := time.Now(), 0, 0, time.Duration(0)
	for pause := enterFirstPause; ; pause = min(2*pause, enterLastPause) {
		info, err := e.ask(ctx, h)
		absent := errors.Is(err, errNobody)
		switch {
		case err == nil:
			return info, nil
		case ctx.Err() != nil:
		case absent && founds:
			e.logger.Info("founding the cluster", "id", e.identity.ID)
			info := NewClusterInfo()
			info.Secret = e.deployment.Secret.swarmKey()
			return info, nil
		case errors.Is(err, errStrange):
			if errors.Is(err, errSecret) {
				other++
			}
			if strange++; strange >= strangeLimit || other >= secretLimit {
				return ClusterInfo{}, api.Errorf(api.CodeForbidden, "not admitted; is the deployment secret of this peer another one? %w", err)
			}
		case !absent && final(err, time.Since(begun)):
			return ClusterInfo{}, fmt.Errorf("not admitted: %w", err)
		default:
			strange, other = 0, 0
		}
		if waited := time.Since(begun); waited >= told {
			e.logger.Info("waiting for a member of the cluster that admits this peer", "id", e.identity.ID, "waited", waited.Round(time.Second), "err", err)
			told = waited + enterTellEvery
		}
		if !sleep(ctx, pause) {
			return ClusterInfo{}, fmt.Errorf("stopped before a member of the cluster had admitted this peer: %w", err)
		}
	}
}

// final says that asking again would not help.
func final(err error, waited time.Duration) bool {
	switch api.CodeOf(err) {
	case api.CodeUnavailable, api.CodeNoLeader, api.CodeUnknownOutcome, api.CodeRateLimited:
		return false
	case api.CodeForbidden:
		return waited > forbiddenPatience
	}
	return true
}

// ask asks at each address in turn until a member has admitted this peer. The
// error is what a member said, or else errStrange, or else errNobody: at no
// address is a peer that may belong to a cluster.
func (e entrance) ask(ctx context.Context, h host.Host) (ClusterInfo, error) {
	var said, strange error
	absent := errNobody
	for _, text := range e.deployment.Join {
		addr, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			return ClusterInfo{}, api.Errorf(api.CodeInvalid, "--join: %q is not a multiaddr such as /dns4/peer0/tcp/9096: %w", text, err)
		}
		info, err := e.askAt(ctx, h, addr)
		at := fmt.Errorf("%s: %w", text, err)
		switch {
		case err == nil:
			return info, nil
		case errors.Is(err, errSelf):
		case errors.Is(err, errNobody), errors.Is(err, errWaiting):
			absent = fmt.Errorf("%w; %w", absent, at)
		case errors.Is(err, errStrange):
			strange = at
		default:
			said = at
		}
	}
	switch {
	case said != nil:
		return ClusterInfo{}, said
	case strange != nil:
		return ClusterInfo{}, strange
	}
	return ClusterInfo{}, absent
}

func (e entrance) askAt(ctx context.Context, h host.Host, addr multiaddr.Multiaddr) (ClusterInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	id, err := e.meet(ctx, h, addr)
	if err != nil {
		return ClusterInfo{}, err
	}
	request, err := joinRequest(h, e.identity, e.cfg, e.version, e.deployment.Secret.credential())
	if err != nil {
		return ClusterInfo{}, err
	}
	reply, err := rpc.NewClient(rpc.NewTransport(h)).AskToJoin(ctx, id, request)
	if err != nil {
		if waiting, _ := h.Peerstore().SupportsProtocols(id, waitingProtocol); len(waiting) > 0 {
			return ClusterInfo{}, errWaiting
		}
		return ClusterInfo{}, err
	}
	return ClusterInfo{ID: reply.ClusterID, Secret: e.deployment.Secret.swarmKey(), Seeds: reply.Members}, nil
}

// meet returns who is at an address, with a connection to it.
func (e entrance) meet(ctx context.Context, h host.Host, addr multiaddr.Multiaddr) (peer.ID, error) {
	if id, ok := e.met[addr.String()]; ok && h.Network().Connectedness(id) == network.Connected {
		return id, nil
	}
	id, err := identify(ctx, h, e.deployment.Secret.swarmKey(), addr)
	if err != nil {
		return "", err
	}
	if id == h.ID() {
		return "", errSelf
	}
	transport, _ := peer.SplitAddr(addr)
	h.Peerstore().AddAddr(id, transport, peerstore.TempAddrTTL)
	e.met[addr.String()] = id
	return id, nil
}

// waitingProtocol tells those who ask that this peer has no cluster yet. One
// that says nothing of the kind may be a member that has not started yet.
const waitingProtocol = "/holdfast/waiting/1"

const askTimeout = 20 * time.Second

// keepCredential makes the cluster remember the deployment's join credential,
// and does nothing afterwards. Only the founder is asked to: its log is the
// cluster's from the first entry.
func (d *Daemon) keepCredential(ctx context.Context) error {
	hash := sha256.Sum256([]byte(d.opts.Deployment.credential()))
	for pause := enterFirstPause; d.waitFounded(ctx) != nil; pause = min(2*pause, enterLastPause) {
		if !sleep(ctx, pause) {
			return nil
		}
	}
	for pause := enterFirstPause; ; pause = min(2*pause, enterLastPause) {
		err := d.cluster.CreateToken(ctx, api.TokenRequest{Hash: hash, ExpiresAt: never, Reusable: true})
		if err == nil || api.CodeOf(err) == api.CodeConflict { // it is known already
			break
		}
		if !sleep(ctx, pause) {
			return nil
		}
		d.logger.Warn("the cluster does not know the deployment's credential yet, so no peer can join by it", "err", err)
	}
	<-ctx.Done()
	return nil
}

// never is the last second that all formats can hold.
var never = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

func sleep(ctx context.Context, pause time.Duration) bool {
	select {
	case <-time.After(pause):
		return true
	case <-ctx.Done():
		return false
	}
}
