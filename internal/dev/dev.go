package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/config"
	"holdfast/internal/daemon"
)

// PortStep is how far apart the ports of two peers are.
const PortStep = 10

// MaxPeers keeps the ports of the peers apart from one another.
const MaxPeers = 9

// tokenTTL is how long the peers have to join one another.
const tokenTTL = 10 * time.Minute

// Options say which peers to run.
type Options struct {
	Peers   int    // 1 to MaxPeers
	Dir     string // one folder per peer is made in it, or found
	Public  bool   // let the IPFS nodes take part in the public network
	Version api.Version
	Logger  *slog.Logger
	// Environment is looked up for settings that all peers share.
	Environment func(string) (string, bool)
}

// Peer is where one peer can be reached; addresses are multiaddrs.
type Peer struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Dir     string `json:"dir"`
	REST    string `json:"rest"`
	Proxy   string `json:"proxy"`
	Pinsvc  string `json:"pinning_service"`
	Cluster string `json:"cluster"`
	Swarm   string `json:"ipfs_swarm"`
}

// Cluster is a set of peers.
type Cluster struct {
	opts  Options
	peers []Peer
	cfgs  []config.Config
}

// New checks the options; Run starts the peers.
func New(opts Options) (*Cluster, error) {
	if opts.Peers < 1 || opts.Peers > MaxPeers {
		return nil, fmt.Errorf("--peers %d: give a number from 1 to %d", opts.Peers, MaxPeers)
	}
	c := &Cluster{opts: opts}
	for k := range opts.Peers {
		cfg, err := c.settings(k)
		if err != nil {
			return nil, err
		}
		c.cfgs = append(c.cfgs, cfg)
		c.peers = append(c.peers, Peer{Name: cfg.PeerName, Dir: filepath.Join(opts.Dir, cfg.PeerName), REST: cfg.RESTListen[0],
			Proxy: cfg.ProxyListen[0], Pinsvc: cfg.PinsvcListen[0], Cluster: cfg.ClusterListen[0], Swarm: cfg.IPFSSwarm[0]})
	}
	return c, nil
}

// settings are the defaults of a service with the ports of peer k, on the
// loopback only.
func (c *Cluster) settings(k int) (config.Config, error) {
	effective, err := config.Load("", c.opts.Environment, nil)
	if err != nil {
		return config.Config{}, err
	}
	cfg := effective.Config
	at := func(port int) []string { return []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port+PortStep*k)} }
	cfg.PeerName = fmt.Sprintf("peer%d", k)
	cfg.RESTListen, cfg.ProxyListen, cfg.ClusterListen, cfg.PinsvcListen = at(9094), at(9095), at(9096), at(9097)
	cfg.IPFSSwarm, cfg.IPFSPublic = at(4001), c.opts.Public
	cfg.ClusterAnnounce, cfg.IPFSAnnounce, cfg.IPFSGatewayListen = nil, nil, nil
	return cfg, nil
}

// Run starts the peers, makes them one cluster, calls ready, and runs until
// ctx ends or a peer fails.
func (c *Cluster) Run(ctx context.Context, ready func([]Peer)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	defer running.Wait()
	var mu sync.Mutex
	var problems []error
	run := func(d *daemon.Daemon, name string) {
		running.Go(func() {
			if err := d.Run(ctx); err != nil {
				mu.Lock()
				problems = append(problems, fmt.Errorf("%s: %w", name, err))
				mu.Unlock()
				cancel(err)
			}
		})
	}
	err := c.start(ctx, run)
	if err == nil {
		ready(c.peers)
		<-ctx.Done()
	}
	cancel(err)
	running.Wait()
	if len(problems) > 0 {
		return errors.Join(problems...)
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// start brings the peers up, the first one alone until the others have joined.
func (c *Cluster) start(ctx context.Context, run func(*daemon.Daemon, string)) error {
	var first *daemon.Daemon
	daemons := make([]*daemon.Daemon, 0, len(c.peers))
	for k := range c.peers {
		d, err := c.open(ctx, k, first)
		if err != nil {
			return err
		}
		c.peers[k].ID = d.ID().String()
		daemons = append(daemons, d)
		run(d, c.peers[k].Name)
		if k == 0 {
			first = d
		}
		if k == 0 && c.needsJoin() {
			if err := wait(ctx, d.Ready()); err != nil {
				return err
			}
		}
	}
	return c.whole(ctx, daemons)
}

func wait(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// needsJoin says whether any peer but the first has no cluster yet.
func (c *Cluster) needsJoin() bool {
	for _, p := range c.peers[1:] {
		if _, err := daemon.LoadClusterInfo(p.Dir); errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return false
}

// open builds a peer, founding the cluster or joining it if it has none yet.
func (c *Cluster) open(ctx context.Context, k int, first *daemon.Daemon) (*daemon.Daemon, error) {
	dir := c.peers[k].Dir
	_, err := daemon.LoadClusterInfo(dir)
	switch {
	case err == nil:
	case !errors.Is(err, os.ErrNotExist):
		return nil, err
	case first == nil:
		if _, err := daemon.Found(dir); err != nil {
			return nil, err
		}
	default:
		if err := c.join(ctx, k, first); err != nil {
			return nil, fmt.Errorf("%s: %w", c.peers[k].Name, err)
		}
	}
	folder, err := daemon.LoadFolder(dir)
	if err != nil {
		return nil, err
	}
	return daemon.New(daemon.Options{Dir: dir, Config: c.cfgs[k], Identity: folder.Identity, Cluster: folder.Cluster,
		Peers: len(c.peers), Version: c.opts.Version, Logger: c.opts.Logger})
}

func (c *Cluster) join(ctx context.Context, k int, first *daemon.Daemon) error {
	identity, err := daemon.EnsureIdentity(c.peers[k].Dir)
	if err != nil {
		return err
	}
	answer, err := first.CreateToken(ctx, tokenTTL)
	if err != nil {
		return err
	}
	token, err := daemon.ParseJoinToken(answer.Token)
	if err != nil {
		return err
	}
	return daemon.Join(ctx, c.peers[k].Dir, token, identity, c.cfgs[k], c.opts.Version)
}

// whole waits until every peer answers requests and the first one sees all as
// up and voting members. A peer can be up in the eyes of the leader, to which
// it reports, before it has opened its own doors.
func (c *Cluster) whole(ctx context.Context, daemons []*daemon.Daemon) error {
	for _, d := range daemons {
		if err := wait(ctx, d.Ready()); err != nil {
			return err
		}
	}
	want := make([]peer.ID, 0, len(c.peers))
	for _, p := range c.peers {
		id, err := api.DecodePeer(p.ID)
		if err != nil {
			return err
		}
		want = append(want, id)
	}
	return daemons[0].WaitWhole(ctx, want)
}
