package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/ipfs/boxo/bootstrap"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/coreapi"
	coreiface "github.com/ipfs/kubo/core/coreiface"
	"github.com/ipfs/kubo/core/node/libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/node/internal/gate"
)

// Node is an IPFS node in this process. Its methods may be called by anybody
// at any time; before Run is ready and after it ended they return unavailable.
type Node struct {
	config Config
	logger *slog.Logger
	gate   *gate.Gate
	roots  *rootBatcher
	ready  chan struct{}
	pinMu  sync.Mutex // one batch of pins at a time

	peersChanged chan struct{} // has room for one
	damageFound  chan struct{} // likewise

	mu       sync.Mutex
	id       peer.ID
	open     *opened
	gcFailed error // of the last collection by the clock
	ops      map[uint64]operation
	nextOp   uint64
	idle     chan struct{}         // closed when the last operation ended; nil: nobody waits
	fetching map[cid.Cid]int       // roots that are being fetched
	fetched  map[cid.Cid]time.Time // roots that were fetched and not pinned yet
	peers    map[peer.ID]peer.AddrInfo
	counters counters
}

// opened is what exists between opening and closing the repository.
type opened struct {
	core    *core.IpfsNode
	api     coreiface.CoreAPI
	space   *space
	store   *guardedStore
	damage  *damage
	repoID  string
	marker  cid.Cid // see openRepoID; undefined: there is none
	rpc     http.Handler
	gateway http.Handler
}

type operation struct {
	what  string
	since time.Time
	end   context.CancelCauseFunc
}

// New makes a node; nothing is opened before Run. The logger may be nil.
func New(c Config, logger *slog.Logger) (*Node, error) {
	if err := c.Validate(); err != nil {
		return nil, api.Errorf(api.CodeInvalid, "node config: %w", err)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	id, err := identityOf(c.Dir)
	if err != nil {
		return nil, err
	}
	return &Node{config: c.withDefaults(), logger: logger, gate: gate.New(), roots: newRootBatcher(),
		ready: make(chan struct{}), id: id, ops: map[uint64]operation{}, fetching: map[cid.Cid]int{},
		peersChanged: make(chan struct{}, 1), damageFound: make(chan struct{}, 1), fetched: map[cid.Cid]time.Time{}, peers: map[peer.ID]peer.AddrInfo{}}, nil
}

// Ready is closed when the node can be used.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// ID is the node's identity; "" while there is no repository.
func (n *Node) ID() peer.ID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.id
}

// Addresses are where the node can be dialled, each ending in /p2p/<id>; none
// while it is not open.
func (n *Node) Addresses() []multiaddr.Multiaddr {
	n.mu.Lock()
	o := n.open
	n.mu.Unlock()
	if o == nil {
		return nil
	}
	addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: o.core.Identity, Addrs: o.core.PeerHost.Addrs()})
	if err != nil {
		return nil
	}
	return addrs
}

var errClosing = api.Errorf(api.CodeUnavailable, "the IPFS node is closing")

// Run opens the repository (making it first if there is none), keeps the node
// at work until ctx ends, and closes it. It runs once. When closing takes
// longer than ShutdownTimeout the error names what hung.
func (n *Node) Run(ctx context.Context) error {
	if err := Init(n.config); err != nil {
		return err
	}
	lock, err := lockRepo(n.config.Dir)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }() // the process's end would do it too
	closing, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(errClosing)
	o, err := n.openCore(closing)
	if err != nil {
		return err
	}
	o.space.enforce()
	var loops sync.WaitGroup
	loops.Go(func() { n.roots.run(closing, n, o) })
	loops.Go(func() { n.collectPeriodically(closing) })
	loops.Go(func() { n.keepPeers(closing, o) })
	n.mu.Lock()
	n.open, n.id = o, o.core.Identity
	n.mu.Unlock()
	close(n.ready)
	n.logger.Info("IPFS node is open", "id", o.core.Identity, "addresses", o.core.PeerHost.Addrs())

	<-ctx.Done()
	n.stopOperations()
	stop(errClosing)
	return n.close(o, &loops)
}

func (n *Node) openCore(closing context.Context) (*opened, error) {
	repo, space, err := openRepo(closing, n.config, n.damageFound, n.logger)
	if err != nil {
		return nil, err
	}
	// Kubo dials peers of former days when it is alone.
	if !n.config.Public {
		if err := repo.store.Delete(closing, core.TempBootstrapPeersKey); err != nil {
			return nil, errors.Join(fmt.Errorf("forget former peers: %w", err), repo.Close())
		}
	}
	id, marker, err := openRepoID(closing, repo.store)
	if err != nil {
		return nil, errors.Join(err, repo.Close())
	}
	// On an error NewNode leaves a goroutine that waits for this context.
	lifetime, cancel := context.WithCancel(context.WithoutCancel(closing))
	kubo, err := core.NewNode(lifetime, &core.BuildCfg{
		Online: true, Permanent: true, Repo: repo, Routing: n.routing(repo), Host: n.buildHost,
		ShutdownTimeout: n.config.ShutdownTimeout,
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start IPFS node: %w", errors.Join(err, repo.Close()))
	}
	context.AfterFunc(kubo.Context(), cancel) // Kubo's context ends after it has closed
	kubo.IsDaemon = true
	o := &opened{core: kubo, space: space, store: repo.store, damage: repo.store.damage, repoID: id, marker: marker}
	online := func() bool { return len(kubo.PeerHost.Network().Peers()) > 0 }
	o.damage.online.Store(&online)
	if o.api, err = coreapi.NewCoreAPI(kubo); err == nil {
		err = n.makeHandlers(o)
	}
	if err == nil && !n.config.Public {
		err = kubo.Bootstrap(configuredPeersOnly())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start IPFS node: %w", err), kubo.Close())
	}
	return o, nil
}

// configuredPeersOnly makes Kubo neither remember whom it met nor dial them.
func configuredPeersOnly() bootstrap.BootstrapConfig {
	c := bootstrap.DefaultBootstrapConfig
	c.SetBackupPeers(func(context.Context) []peer.AddrInfo { return nil }, func(context.Context, []peer.AddrInfo) {})
	return c
}

func (n *Node) routing(r *overlaidRepo) libp2p.RoutingOption {
	switch n.config.Routing {
	case RoutingDHT:
		return libp2p.DHTServerOption
	case RoutingAuto:
		return libp2p.ConstructDefaultRouting(r.config, libp2p.DHTOption)
	default:
		return libp2p.NilRouterOption
	}
}

// close waits for what is at work, which was told to stop, and closes Kubo.
// Closing Kubo under a running operation would let Pebble panic.
func (n *Node) close(o *opened, loops *sync.WaitGroup) error {
	limit := time.NewTimer(n.config.ShutdownTimeout)
	defer limit.Stop()
	quiet := make(chan struct{})
	go func() {
		defer close(quiet)
		<-n.idleSignal()
		loops.Wait()
	}()
	select {
	case <-quiet:
	case <-limit.C:
		return api.Errorf(api.CodeInternal, "close IPFS node: still at work after %s: %s; its repository stays open until the process ends",
			n.config.ShutdownTimeout, n.working())
	}
	closed := make(chan error, 1)
	go func() { closed <- errors.Join(o.core.Bootstrapper.Close(), o.core.Close()) }() // Kubo forgets the first
	// Kubo bounds itself by the same time and names the part that hung; the
	// extra second lets it say so.
	watchdog := time.NewTimer(n.config.ShutdownTimeout + time.Second)
	defer watchdog.Stop()
	select {
	case err := <-closed:
		if err != nil {
			return fmt.Errorf("close IPFS node: %w", err)
		}
		n.logger.Info("IPFS node is closed")
		return nil
	case <-watchdog.C:
		return api.Errorf(api.CodeInternal, "close IPFS node: Kubo did not close within %s", n.config.ShutdownTimeout)
	}
}

// begin admits an operation. Its context also ends when the node closes.
func (n *Node) begin(parent context.Context, what string) (*opened, context.Context, func(), error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.open
	if o == nil {
		return nil, nil, nil, api.Errorf(api.CodeUnavailable, "%s: the IPFS node is not open", what)
	}
	id := n.nextOp
	n.nextOp++
	ctx, cancel := context.WithCancelCause(parent)
	n.ops[id] = operation{what: what, since: time.Now(), end: cancel}
	return o, ctx, sync.OnceFunc(func() {
		cancel(nil)
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.ops, id)
		if len(n.ops) == 0 && n.idle != nil {
			close(n.idle)
			n.idle = nil
		}
	}), nil
}

// stopOperations admits none any more and tells those at work to end.
func (n *Node) stopOperations() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open = nil
	for _, op := range n.ops {
		op.end(errClosing)
	}
}

// idleSignal returns a channel that is closed once no operation is at work. It
// is called when no new one can begin.
func (n *Node) idleSignal() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	idle := make(chan struct{})
	if len(n.ops) == 0 {
		close(idle)
		return idle
	}
	n.idle = idle
	return idle
}

func (n *Node) working() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var oldest operation
	for _, op := range n.ops {
		if oldest.what == "" || op.since.Before(oldest.since) {
			oldest = op
		}
	}
	if oldest.what == "" {
		return "a loop of ours"
	}
	return fmt.Sprintf("%d operations, the oldest %q since %s", len(n.ops), oldest.what, oldest.since.Format(time.RFC3339))
}

// ended makes an error of an ended context say why it ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}
