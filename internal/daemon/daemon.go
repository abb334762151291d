package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/adder"
	"holdfast/api"
	"holdfast/cluster"
	"holdfast/config"
	"holdfast/consensus"
	"holdfast/internal/backup"
	"holdfast/internal/front"
	"holdfast/internal/spool"
	"holdfast/internal/telemetry"
	"holdfast/ipfsproxy"
	"holdfast/monitor"
	"holdfast/pintracker"
	"holdfast/restapi"
	"holdfast/restapi/pinsvc"
	"holdfast/rpc"
	"holdfast/state"
)

// Options say which peer to build.
type Options struct {
	Dir      string // the peer's folder; must exist
	Config   config.Config
	Identity Identity
	Cluster  ClusterInfo
	// Deployment, when set, is the secret by which the founder's cluster admits
	// further peers.
	Deployment *DeploymentSecret
	Version    api.Version
	Logger     *slog.Logger   // nil: nothing is logged
	LogLevel   *slog.LevelVar // of the logger, so that it can be reloaded; nil: fixed
	Peers      int            // that share this process and its file descriptors; 0: one
	Seams      Seams
}

// Daemon is one peer.
type Daemon struct {
	opts   Options
	logger *slog.Logger
	ready  chan struct{}
	// leaving says that this peer has asked for its own removal.
	leaving atomic.Bool
	// outside is why this peer has no part in its cluster; nil: it has one, or
	// nobody says otherwise.
	outside   atomic.Pointer[api.Error]
	stage     atomic.Pointer[string] // of its start; nil: not begun
	reloading reloading
	metrics   *telemetry.Metrics
	parts     // complete once ready is closed
}

// parts are the packages that make a peer, plugged together.
type parts struct {
	seams       Seams
	host        host.Host // nil in simulation
	state       *state.Pinset
	log         *consensus.Log
	tracker     *pintracker.Tracker
	monitor     *monitor.Monitor
	cluster     *cluster.Cluster
	node        Node
	remote      *rpc.Client
	adder       *adder.Adder
	keeper      *backup.Keeper // nil: no backups by the clock
	trust       *trust
	guests      *guests // nil in simulation
	disks       *disks  // nil in simulation
	rest        *front.Front
	proxy       *front.Front
	pinsvc      *front.Front
	gateway     *front.Front
	guard       *front.Guard
	spools      *spool.Store       // of answers that wait; nil in simulation
	certificate *front.Certificate // nil: no TLS
	descriptors descriptors
	clusterCfg  cluster.Config
	remains     string // of a pinset that was damaged; "": it was not
	// tell are the parts that know by themselves what is wrong with them; it is
	// complete before the use cases run.
	tell []func() []api.Condition
}

// New returns a peer that Run starts.
func New(opts Options) (*Daemon, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(opts.Config.Validate()...); err != nil {
		return nil, err
	}
	if opts.Identity.ID == "" {
		return nil, errors.New("a peer needs an identity; 'cluster-service init' makes one")
	}
	return &Daemon{opts: opts, logger: opts.Logger.With("peer", opts.Config.PeerName), ready: make(chan struct{}),
		reloading: reloading{level: opts.LogLevel, current: opts.Config}, metrics: telemetry.New()}, nil
}

// Ready is closed when the peer answers requests.
func (d *Daemon) Ready() <-chan struct{} { return d.ready }

// ID is the peer's identity in the cluster.
func (d *Daemon) ID() peer.ID { return d.opts.Identity.ID }

// Run runs the peer until ctx ends and everything it started is gone. The HTTP
// listeners open first and answer 503 until the rest is there; the stop goes
// the other way round. Nothing but ctx, a failed disk or a state that cannot be
// right ends it (INV-ALIVE).
func (d *Daemon) Run(ctx context.Context) (err error) {
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if d.descriptors, err = d.opts.shareDescriptors(); err != nil {
		return err
	}
	fronts := newStages(d.logger)
	if err := d.openFronts(fronts); err != nil {
		return err
	}
	inner := newStages(d.logger)
	err = d.startParts(ctx, inner)
	if err == nil {
		err = d.serve(ctx, fronts, inner)
	}
	return errors.Join(err, fronts.stop(), inner.stop())
}

// serve lets requests in once node and log work, and waits for the end.
func (d *Daemon) serve(ctx context.Context, fronts, inner *stages) error {
	for _, part := range []struct {
		stage string
		ready <-chan struct{}
	}{{"raft reads its log", d.log.Ready()}, {"the IPFS node opens its repository", d.node.Ready()},
		{"the tracker looks whether the repository is still its own", d.tracker.Recognized()}} {
		d.enter(part.stage)
		select {
		case <-part.ready:
		case err := <-inner.failed:
			return err
		case err := <-fronts.failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
	// The leader shall know that this node works before the first client asks for
	// a place here. It is told again by the clock if it cannot be told now.
	if err := d.monitor.Report(ctx); err != nil {
		d.logger.Debug("the leader is told later that this node works", "err", err)
	}
	d.enter("the pinset takes in what the log holds")
	d.catchUp(ctx)
	d.openGates()
	close(d.ready)
	if d.outside.Load() == nil {
		d.logger.Info("ready", "id", d.ID(), "rest", d.rest.Addrs(), "proxy", d.proxy.Addrs())
	}
	select {
	case err := <-inner.failed:
		return err
	case err := <-fronts.failed:
		return err
	case <-ctx.Done():
		d.logger.Info("stopping")
		return d.leave()
	}
}

// catchUp waits until the pinset holds what this peer's own log holds, so that
// the first reads after a crash do not show the past. Only a cluster without a
// leader keeps it waiting; then old answers are better than none. So they are
// for a peer that turns out to be no member.
func (d *Daemon) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	last := d.log.Stats().LastIndex
	for d.outside.Load() == nil {
		bounded, cancel := context.WithTimeout(ctx, catchUpLook)
		err := d.log.WaitApplied(bounded, last)
		looking := bounded.Err() != nil // the wait ended with its time, and not with the log
		cancel()
		switch {
		case err == nil:
			return
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			d.logger.Warn("answering from an old pinset: the cluster has no leader that could tell what is committed", "err", err)
			return
		case ctx.Err() != nil || !looking:
			return
		}
	}
}

// catchUpLook is how often a peer that catches up looks whether it is a member.
const catchUpLook = 250 * time.Millisecond

const catchUpTimeout = 10 * time.Second

// lock makes sure that nobody else runs in the folder, and that it is of a
// version that we know.
func (d *Daemon) lock(ctx context.Context) (unlock func() error, err error) {
	if d.opts.Seams.simulated() {
		return func() error { return nil }, nil
	}
	if unlock, err = awaitFolder(ctx, d.opts.Dir, d.logger); err != nil {
		return nil, err
	}
	if err := checkFormat(d.opts.Dir); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

// startParts builds the peer from the disk upwards and starts its parts; what
// was started stands in s, also when it returns an error.
func (d *Daemon) startParts(ctx context.Context, s *stages) error {
	d.enter("the cluster swarm opens")
	if !d.opts.Seams.simulated() {
		d.guests = newGuests()
		h, err := newHost(d.opts.Identity, d.opts.Cluster, d.opts.Config.ClusterListen, d.opts.Config.ClusterAnnounce, d.descriptors.cluster, d.opts.Version.Version, d.guests)
		if err != nil {
			return err
		}
		d.host = h
		s.atStop("cluster swarm", h.Close)
	}
	d.seams = d.opts.realSeams(d.host, d.descriptors.ipfs)
	var err error
	d.enter("the pinset opens")
	if d.state, err = d.openPinset(); err != nil {
		return err
	}
	s.atStop("pinset", d.state.Close)
	s.start("pinset survey", d.state.Survey)
	d.trust = newTrust(d.ID(), d.state, d.opts.Cluster.Seeds, d.addressOf)
	if d.node, err = d.seams.Node(d.wanted); err != nil {
		return err
	}
	d.tell = append(d.tell, d.node.Conditions)
	d.enter("the raft log opens")
	if err := d.openLog(s); err != nil {
		return err
	}
	d.trust.follow(d.memberIDs)
	if d.guests != nil {
		d.guests.trust.Store(d.trust)
	}
	d.enter("the tracker's store opens")
	if err := d.openTracker(s); err != nil {
		return err
	}
	if err := errors.Join(d.openBackups(), d.openCluster()); err != nil {
		return err
	}
	s.start("node", d.node.Run)
	s.start("log", d.log.Run)
	if d.host != nil {
		if hints, err := parseHints(d.opts.Config.PeerAddresses); err != nil {
			return err
		} else if len(hints) > 0 {
			s.start("told addresses", func(ctx context.Context) error { return d.followHints(ctx, hints) })
		}
		s.start("address book", newAddressBook(d.trust, d.host, d.remote).Run)
	}
	s.start("vouching", func(ctx context.Context) error { return d.trust.vouch(ctx, d.remote) })
	s.start("monitor", d.monitor.Run)
	if d.opts.Deployment != nil && d.opts.Cluster.Founder {
		s.start("deployment credential", d.keepCredential)
	}
	s.start("cluster", d.cluster.Run)
	s.start("peering", d.keepPeering)
	s.start("membership", d.watchRemoval)
	s.start("standing", d.watchStanding)
	if d.disks != nil {
		s.start("disks", d.disks.Run)
	}
	if d.keeper != nil {
		s.start("backups", d.keeper.Run)
	}
	s.start("tracker", func(ctx context.Context) error { return runWhen(ctx, d.node.Ready(), d.tracker.Run) })
	return ctx.Err()
}

// runWhen runs a part once another is ready.
func runWhen(ctx context.Context, ready <-chan struct{}, run func(context.Context) error) error {
	select {
	case <-ready:
		return run(ctx)
	case <-ctx.Done():
		return nil
	}
}

// openLog opens the raft log, and founds the cluster if this peer may.
func (d *Daemon) openLog(s *stages) error {
	a, err := d.seams.Agreement(d.trust.isMember)
	if err != nil {
		return err
	}
	s.atStop("raft log", a.Close)
	c := d.opts.Config
	pace := consensus.Config{ID: d.ID(), Dir: filepath.Join(d.opts.Dir, "raft"),
		HeartbeatTimeout: c.HeartbeatTimeout, ElectionTimeout: c.ElectionTimeout}
	if d.seams.Pace != nil {
		d.seams.Pace(&pace)
	}
	d.log, err = consensus.New(pace, consensus.Deps{Machine: measured{d.state, d.metrics}, Transport: a.Transport, Logs: a.Logs, Stable: a.Stable, FS: d.seams.FS,
		Lead: func(ctx context.Context) { d.cluster.Lead(ctx) }, Logger: raftLogger(d.logger)})
	if err != nil {
		return err
	}
	has, err := d.log.HasState()
	if err != nil {
		return fmt.Errorf("read the raft log: %w", err)
	}
	if !has && d.opts.Cluster.Founded {
		return api.Errorf(api.CodeInternal, "the raft log in %s is gone: this peer began its cluster, has run in it, and must not begin it a second time. "+
			"Remove it with 'cluster-ctl peers rm' on another peer, move %s away and join again with 'cluster-service join TOKEN'; "+
			"if it was alone, begin a new cluster from a backup (docs/backup.md)", filepath.Join(d.opts.Dir, "raft"), d.opts.Dir)
	}
	if !has && d.opts.Cluster.Founder {
		return d.log.Bootstrap([]peer.ID{d.ID()})
	}
	return nil
}

func (d *Daemon) openTracker(s *stages) error {
	declines := make(chan api.DeclineRequest, 64)
	c := pintracker.Config{Self: d.ID(), Workers: d.opts.Config.ConcurrentPins}
	if d.seams.TrackerPace != nil {
		d.seams.TrackerPace(&c)
	}
	var err error
	d.tracker, err = pintracker.New(c,
		pintracker.Deps{Source: d.state, Node: d.node, Holders: d.holders, FS: d.seams.FS,
			Released: func(ctx context.Context, pin api.Pin) bool { return d.cluster.Released(ctx, pin) },
			Dir:      filepath.Join(d.opts.Dir, "tracker"), Logger: d.logger.With("part", "tracker"), Wall: d.seams.Wall,
			Events: pintracker.Events{Failed: d.declineFull(declines)}})
	if err != nil {
		return fmt.Errorf("%w; if the disk can be read, remove %s: every pin is then looked at anew", err, filepath.Join(d.opts.Dir, "tracker"))
	}
	d.tell = append(d.tell, d.tracker.Conditions)
	s.atStop("tracker store", d.tracker.Close)
	s.start("declines", func(ctx context.Context) error { return d.sendDeclines(ctx, declines) })
	return nil
}

func (d *Daemon) openCluster() error {
	c := d.opts.Config
	var err error
	d.clusterCfg = cluster.Config{Self: d.ID(), Name: c.PeerName, Version: d.opts.Version, Tags: c.Tags, Voters: c.Voters,
		DefaultMin: c.ReplicationMin, DefaultMax: c.ReplicationMax, Recovered: d.opts.Cluster.Recovered, BelowMinGrace: c.BelowMinGrace, BelowMaxGrace: c.BelowMaxGrace, RepairRate: c.RepairRate}
	if d.opts.Cluster.Founder {
		d.clusterCfg.ClusterID = d.opts.Cluster.ID
	}
	services := rpc.Services{Node: blockWriter{d}, Events: d.rpcEvents()}
	remote := &lateTransport{}
	d.remote = rpc.NewClient(rpc.Observed(remote, services.Events))
	d.monitor = monitor.New(monitor.Config{Self: d.ID()}, monitor.Deps{Sender: d.remote, Leader: d.log.Leader,
		Collect: func(ctx context.Context) api.PeerReport { return d.cluster.LocalReport(ctx) },
		Members: d.memberIDs, Logger: d.logger.With("part", "monitor"), Wall: d.seams.Wall})
	deps := cluster.Deps{State: d.state, Log: d.log, Membership: d.log, Peers: d.monitor,
		Tracker: d.tracker, Node: d.node, Remote: d.remote, Addresses: d.seams.Addresses, Logger: d.logger.With("part", "cluster"), Wall: d.seams.Wall}
	deps.Term = func() (uint64, uint64) { stats := d.log.Stats(); return stats.Term, stats.LeaderChanges }
	if d.keeper != nil {
		deps.Backup = d.keeper.Report
	}
	deps.Conditions = d.conditions
	d.tell = append(d.tell, d.notInside, d.damaged, (&isolation{self: d.ID(), view: d.monitor.View, reaches: d.node.Reaches}).Conditions)
	if !d.opts.Seams.simulated() {
		d.disks = d.newDisks()
		d.tell = append(d.tell, d.disks.Conditions)
	}
	if d.host != nil {
		deps.Connected = func(id peer.ID) bool { return d.host.Network().Connectedness(id) == network.Connected }
	}
	d.cluster, err = cluster.New(d.clusterCfg, deps)
	if err != nil {
		return err
	}
	services.Cluster, services.Tracker, services.Monitor = leaderOnly{d.cluster, d.log.IsLeader, d.whereabouts}, d.cluster, d.monitor
	services.Joiner = d.cluster
	remote.Transport, err = d.seams.RPC(services, d.roleOf)
	if err != nil {
		return err
	}
	d.adder = adder.New(adder.Deps{Self: d.ID(), Cluster: d.cluster, Open: d.openDestination, Lease: d.node.Lease,
		Logger: d.logger.With("part", "adder")}, adder.Config{})
	return nil
}

// lateTransport is filled in when the services that need it exist.
type lateTransport struct{ rpc.Transport }

// openGates gives the HTTP APIs their handlers.
func (d *Daemon) openGates() {
	d.metrics.Show(d.picture)
	d.rest.Ready(restapi.New(d.cluster, d.adder, restapi.Config{Logger: d.logger.With("part", "restapi"), Stopping: d.rest.Stopping(), Spools: d.spools, Metrics: d.metrics.Handler()}))
	d.proxy.Ready(ipfsproxy.New(ipfsproxy.Deps{Service: d.cluster, Adder: d.adder, Node: d.node.RPC(), Lease: d.node.Lease,
		Spools: d.spools, Logger: d.logger.With("part", "proxy")}, ipfsproxy.Config{Self: d.ID()}))
	d.pinsvc.Ready(pinsvc.New(d.cluster, pinsvc.Config{Logger: d.logger.With("part", "pinsvc")}))
	d.gateway.Ready(d.node.Gateway())
}

func (d *Daemon) memberIDs() []peer.ID {
	var ids []peer.ID
	for _, m := range d.log.Members() {
		ids = append(ids, m.ID)
	}
	return ids
}

// wanted walks the pins that this peer shall hold.
func (d *Daemon) wanted(keep func(api.Pin) bool) error {
	for pin, err := range d.state.Pins(api.PinFilter{Peer: d.ID()}) {
		if err != nil {
			return err
		}
		if !keep(pin) {
			return nil
		}
	}
	return nil
}
