package sim

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/cluster"
	"holdfast/config"
	"holdfast/consensus"
	"holdfast/internal/daemon"
	"holdfast/node/fake"
	"holdfast/pintracker"
	"holdfast/rpc"
)

// Options say what to simulate.
type Options struct {
	Peers     int // members at the beginning
	Seed      uint64
	Configure func(*config.Config)    // of every peer; nil: as below
	Pace      func(*consensus.Config) // of every peer's log; nil: the defaults
	Opening   time.Duration           // how long every peer's IPFS node takes to open
	// TrackerPace is of every peer's tracker; nil: the defaults.
	TrackerPace func(*pintracker.Config)
}

// Cluster is some peers, their network, and an IPFS node outside that has all
// content. It belongs to one bubble; one goroutine scripts it.
type Cluster struct {
	Origin *fake.Node

	peers   atomic.Pointer[[]*Peer]
	t       testing.TB
	options Options
	logger  *slog.Logger
	tail    tail // of the log
	net     *network
	rpc     *rpc.Memory
	world   *fake.World
	working *Workload // until it ends
	history *history

	randMu  sync.Mutex
	random  *rand.Rand
	zombies []*incarnation // crashed, and maybe not gone yet
	deeds   []string       // of the nemesis
	origin  struct {
		cancel context.CancelFunc
		done   chan struct{}
	}
	watch struct {
		stop chan struct{}
		done sync.WaitGroup
	}
}

// New founds a cluster and lets the other peers join. It must be called in a
// bubble; Close must be called there, too.
func New(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := &Cluster{t: t, options: o, net: newNetwork(o.Seed), world: fake.NewWorld(time.Millisecond),
		history: &history{}, random: rand.New(rand.NewPCG(o.Seed, 1))}
	c.peers.Store(&[]*Peer{})
	c.logger = c.newLogger()
	c.rpc = &rpc.Memory{Link: c.net.fate}
	c.startOrigin()
	founder := c.addPeer()
	founder.info = daemon.ClusterInfo{ID: hex.EncodeToString(make([]byte, 16)), Secret: make([]byte, 32), Founder: true}
	c.Start(founder)
	for range o.Peers - 1 {
		c.Join()
	}
	c.WaitWhole()
	c.watch.stop = make(chan struct{})
	c.watch.done.Go(c.watchApplied)
	return c
}

// Peers are all that there ever were, in the order in which they came.
func (c *Cluster) Peers() []*Peer { return *c.peers.Load() }

// Close ends everything.
func (c *Cluster) Close() {
	if c.working != nil {
		c.working.End() // the scenario broke off
	}
	close(c.watch.stop)
	c.watch.done.Wait()
	var stopping sync.WaitGroup
	for _, p := range c.Peers() {
		stopping.Go(p.Stop)
	}
	stopping.Wait()
	for _, inc := range c.zombies {
		<-inc.done
	}
	c.origin.cancel()
	<-c.origin.done
}

// fail reports a violated invariant.
func (c *Cluster) fail(invariant, format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%s (seed %d): %s", invariant, c.options.Seed, fmt.Sprintf(format, args...))
}

// dice returns a source of randomness of its own, from the seed.
func (c *Cluster) dice() *rand.Rand {
	c.randMu.Lock()
	defer c.randMu.Unlock()
	return rand.New(rand.NewPCG(c.random.Uint64(), c.random.Uint64()))
}

// addPeer makes a peer that does not run yet.
func (c *Cluster) addPeer() *Peer {
	c.t.Helper()
	number := len(c.Peers())
	settings := config.New()
	settings.PeerName = fmt.Sprintf("peer%d", number)
	settings.BelowMaxGrace = time.Minute
	if c.options.Configure != nil {
		c.options.Configure(&settings)
	}
	ipfs := c.identity(number, "ipfs")
	self := c.identity(number, "peer")
	p := &Peer{Identity: self, address: raft.ServerAddress(self.ID.String()), Name: settings.PeerName, number: number, IPFS: ipfs.ID, Disk: fake.NewDisk(ipfs.ID),
		cluster: c, config: settings, fs: vfs.NewCrashableMem(), logs: raft.NewInmemStore()}
	all := append(slices.Clone(c.Peers()), p)
	c.peers.Store(&all)
	return p
}

// identity returns the same key for the same number and purpose in every run.
func (c *Cluster) identity(number int, purpose string) daemon.Identity {
	c.t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint64(seed, uint64(number))
	copy(seed[8:], purpose)
	key, err := crypto.UnmarshalEd25519PrivateKey(ed25519.NewKeyFromSeed(seed))
	c.must(err)
	id, err := peer.IDFromPrivateKey(key)
	c.must(err)
	return daemon.Identity{ID: id, Key: key}
}

// must ends the test when the simulation itself fails.
func (c *Cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("seed %d: %v", c.options.Seed, err)
	}
}

// Join admits a new peer and starts it.
func (c *Cluster) Join() *Peer {
	c.t.Helper()
	p := c.addPeer()
	c.until("the admission of "+p.Name, func() error { return c.admit(p) })
	c.Start(p)
	return p
}

// admit lets a new peer join, through whichever member answers.
func (c *Cluster) admit(p *Peer) error {
	c.t.Helper()
	var answer daemon.TokenAnswer
	c.until("a join token", func() error {
		for _, member := range c.members() {
			if member != p {
				return within(20*time.Second, func(ctx context.Context) (err error) {
					answer, err = member.now.Load().daemon.CreateToken(ctx, time.Hour)
					return err
				})
			}
		}
		return errNobody
	})
	token, err := daemon.ParseJoinToken(answer.Token)
	c.must(err)
	secret, err := hex.DecodeString(token.Secret)
	c.must(err)
	client := rpc.NewClient(c.rpc.Serve(p.ID, rpc.Services{}, func(peer.ID) rpc.Role { return rpc.Stranger }))
	defer c.rpc.Remove(p.ID)
	err = errNobody
	for _, member := range c.members() {
		var reply api.JoinReply
		err = within(20*time.Second, func(ctx context.Context) (err error) {
			reply, err = client.AskToJoin(ctx, member.ID, api.JoinRequest{Credential: token.Credential, Version: "sim",
				Protocol: api.RPCProtocol, Time: time.Now(), Member: api.Member{ID: p.ID, Name: p.Name, CommandVersion: p.knows}})
			return err
		})
		if err == nil {
			p.info = daemon.ClusterInfo{ID: reply.ClusterID, Secret: secret, Seeds: reply.Members}
			return nil
		}
	}
	return err
}

// Start starts peers, all those that do not run if none are named, and waits
// until they answer.
func (c *Cluster) Start(peers ...*Peer) {
	c.t.Helper()
	if len(peers) == 0 {
		peers = c.Peers()
	}
	for _, p := range peers {
		c.Begin(p)
	}
	for _, p := range peers {
		c.await(p)
	}
}

// Begin starts a peer and does not wait.
func (c *Cluster) Begin(p *Peer) {
	c.t.Helper()
	if p.now.Load() == nil {
		c.must(p.start())
	}
}

func (c *Cluster) await(p *Peer) {
	c.t.Helper()
	inc := p.now.Load()
	select {
	case <-inc.daemon.Ready():
	case <-inc.done:
		if p.removed {
			return
		}
		c.t.Fatalf("seed %d: %s did not start: %v", c.options.Seed, p.Name, inc.err)
	case <-time.After(5 * time.Minute):
		c.t.Fatalf("seed %d: %s is not ready after five minutes", c.options.Seed, p.Name)
	}
	if p.removed {
		return // it may end any moment
	}
	_, applied, err := inc.daemon.StateHash()
	c.must(err)
	if applied < p.floor {
		c.fail("INV-APPLIED", "%s came up with index %d applied; %d was durable", p.Name, applied, p.floor)
	}
}

// until tries something every 100 ms until it succeeds, for ten minutes at most.
func (c *Cluster) until(what string, try func() error) {
	c.t.Helper()
	deadline := time.Now().Add(10 * time.Minute)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("seed %d: waited ten minutes for %s: %v\n%s", c.options.Seed, what, err, c.picture())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// within bounds a call.
func within(limit time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return do(ctx)
}

// WaitWhole waits until all peers that run see one another as up.
func (c *Cluster) WaitWhole() {
	c.t.Helper()
	var ids []peer.ID
	for _, p := range c.Peers() {
		if p.up() {
			ids = append(ids, p.ID)
		}
	}
	for _, p := range c.Peers() {
		if p.up() {
			c.must(within(5*time.Minute, func(ctx context.Context) error { return p.now.Load().daemon.WaitWhole(ctx, ids) }))
		}
	}
}

// Leader waits for a leader that a majority accepts.
func (c *Cluster) Leader() *Peer {
	c.t.Helper()
	var leader *Peer
	c.until("a leader", func() error {
		for _, p := range c.Peers() {
			if !p.up() || p.now.Load().daemon.Log().Stats().State != "Leader" {
				continue
			}
			err := within(time.Second, func(ctx context.Context) error {
				_, err := p.now.Load().daemon.Cluster().AsLeader().ReadIndex(ctx)
				return err
			})
			if err == nil {
				leader = p
				return nil
			}
		}
		return errors.New("there is none")
	})
	return leader
}

// MakeLeader hands leadership to a peer, which must have a vote.
func (c *Cluster) MakeLeader(p *Peer) {
	c.t.Helper()
	c.until(p.Name+" to lead", func() error {
		leader := c.Leader()
		if leader == p {
			return nil
		}
		return within(20*time.Second, func(ctx context.Context) error {
			if err := leader.now.Load().daemon.Log().TransferLeadership(ctx, p.ID); err != nil {
				return err
			}
			return errors.New("it is not known yet who leads")
		})
	})
}

// Follower returns a peer that runs and does not lead.
func (c *Cluster) Follower() *Peer {
	c.t.Helper()
	leader := c.Leader()
	for _, p := range c.Peers() {
		if p != leader && p.up() {
			return p
		}
	}
	c.t.Fatal("no follower")
	return nil
}

// Use calls a peer as a client of it would. The error is unavailable when
// there was nobody to ask, and unknown_outcome when the peer crashed meanwhile.
func (c *Cluster) Use(p *Peer, limit time.Duration, request func(context.Context, *cluster.Cluster) error) error {
	return c.use(p, limit, func(ctx context.Context, inc *incarnation) error { return request(ctx, inc.daemon.Cluster()) })
}

// use is Use for a request that wants to know whether the process still lives.
func (c *Cluster) use(p *Peer, limit time.Duration, request func(context.Context, *incarnation) error) error {
	inc := p.now.Load()
	if inc == nil || !inc.ready() {
		return api.Errorf(api.CodeUnavailable, "%s does not answer", p.Name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	defer inc.atKill(cancel)()
	err := request(ctx, inc)
	if inc.crashed() {
		return api.Errorf(api.CodeUnknownOutcome, "%s crashed", p.Name)
	}
	return err
}

// Cut blocks all messages from one peer to another. The IPFS nodes lose sight
// of one another, too.
func (c *Cluster) Cut(from, to *Peer, cut bool) {
	c.net.block(from.ID, to.ID, cut)
	c.world.Cut(from.IPFS, to.IPFS, cut)
}

// Isolate cuts a peer off in both directions.
func (c *Cluster) Isolate(p *Peer, cut bool) {
	for _, other := range c.Peers() {
		if other != p {
			c.Cut(p, other, cut)
			c.Cut(other, p, cut)
		}
	}
}

// Heal makes network and disks whole, and finds what is damaged on them.
func (c *Cluster) Heal() {
	c.net.heal()
	c.world.Heal()
	for _, p := range c.Peers() {
		p.fault.Store(nil)
		p.Disk.SetCapacity(0)
		p.Disk.Scrub()
	}
}
