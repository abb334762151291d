package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/state"
)

// Log agrees with the other peers on an order of commands.
type Log interface {
	Propose(ctx context.Context, command []byte) (index uint64, result any, err error)
	// ProposeAll returns the results in the order of the commands.
	ProposeAll(ctx context.Context, commands [][]byte) (results []any, err error)
	Leader() (peer.ID, bool)
	IsLeader() bool
	ReadIndex(ctx context.Context) (uint64, error)
	WaitApplied(ctx context.Context, index uint64) error
}

// Membership changes who takes part in the agreement. Only the leader can.
type Membership interface {
	Members() []api.RaftMember
	AddLearner(ctx context.Context, id peer.ID) error
	AddVoter(ctx context.Context, id peer.ID) error
	Demote(ctx context.Context, id peer.ID) error
	Remove(ctx context.Context, id peer.ID) error
	TransferLeadership(ctx context.Context, id peer.ID) error
}

// Peers knows which peers are alive and what they last reported.
type Peers interface {
	View() []api.PeerView
	Changed() <-chan struct{}
	// Confirmed is how long ago a leader answered this peer; false: none has.
	Confirmed() (time.Duration, bool)
	// Report tells the leader of this peer at once.
	Report(ctx context.Context) error
}

// Tracker knows how far this peer got with its own pins.
type Tracker interface {
	Status(c cid.Cid) (api.PinInfoShort, bool, error)
	StatusAll(q api.StatusQuery) iter.Seq2[api.PinInfo, error]
	Recover(c cid.Cid) (bool, error)
	RecoverAll() iter.Seq2[api.PinInfo, error]
	Queued() uint64
}

// Node is this peer's IPFS node.
type Node interface {
	ID() peer.ID
	Addresses() []multiaddr.Multiaddr
	Resolve(ctx context.Context, path string) (cid.Cid, error)
	RepoStat(ctx context.Context) (api.RepoStat, error) // counts every block
	RepoSize(ctx context.Context) (uint64, error)       // cheap
	Free(ctx context.Context) (uint64, error)
	GC(ctx context.Context, emit func(api.RepoGCKey)) error
}

// Remote asks other peers.
type Remote interface {
	Pin(ctx context.Context, to peer.ID, in api.PinRequest) (api.PinResult, error)
	Unpin(ctx context.Context, to peer.ID, in api.UnpinRequest) (api.PinResult, error)
	Bulk(ctx context.Context, to peer.ID, in []api.BulkLine) ([]api.BulkResult, error)
	Allocate(ctx context.Context, to peer.ID, in api.PinOptions) (api.Placement, error)
	Decline(ctx context.Context, to peer.ID, in api.DeclineRequest) error
	ReadIndex(ctx context.Context, to peer.ID) (uint64, error)
	RemovePeer(ctx context.Context, to peer.ID, in api.RemoveRequest) error
	SetRole(ctx context.Context, to peer.ID, in api.RoleRequest) error
	TransferLeadership(ctx context.Context, to, next peer.ID) error
	CreateToken(ctx context.Context, to peer.ID, in api.TokenRequest) error
	PutMember(ctx context.Context, to peer.ID, in api.Member) error
	Join(ctx context.Context, to peer.ID, in api.JoinRequest) (api.JoinReply, error)
	ID(ctx context.Context, to peer.ID) (api.ID, error)
	Status(ctx context.Context, to peer.ID, in api.Cid) (api.PinInfo, error)
	StatusAll(ctx context.Context, to peer.ID, in api.StatusQuery) iter.Seq2[api.PinInfo, error]
	Recover(ctx context.Context, to peer.ID, in api.Cid) (api.PinInfo, error)
	RecoverAll(ctx context.Context, to peer.ID) iter.Seq2[api.PinInfo, error]
	RepoStat(ctx context.Context, to peer.ID) (api.RepoStat, error)
	RepoGC(ctx context.Context, to peer.ID) (api.RepoGC, error)
}

// Config says who this peer is and what the cluster does by default. Times are
// durations; zero takes the default.
type Config struct {
	Self      peer.ID
	Name      string
	ClusterID string // of a new cluster; the first leader writes it
	Version   api.Version
	Tags      map[string]string
	// Recovered is when 'cluster-service recover' made this peer the only
	// member; zero: never.
	Recovered time.Time

	// DefaultMin and DefaultMax are the replication factors of a pin that
	// names none: -1 both for every peer, or counts. Default 1 and 2.
	DefaultMin, DefaultMax int
	// Voters is how many peers take part in votes, at most; further ones
	// replicate only. Default 5.
	Voters int
	// SettleTime is how long a learner must be up before it is given a vote.
	// Default 10 s.
	SettleTime time.Duration
	// LostTime is how long a voter must be down before its vote goes to
	// another. Default 20 s.
	LostTime time.Duration
	// BelowMinGrace is how long a peer must be down before its pins that have
	// fewer live replicas than their minimum are placed elsewhere. Default 2 s.
	BelowMinGrace time.Duration
	// BelowMaxGrace is the same for pins that still have their minimum; it
	// should be longer than a restart or an upgrade. Default 10 min.
	BelowMaxGrace time.Duration
	// RepairRate is how many pins repair places anew in a second, at most.
	// Default 1,000.
	RepairRate int
	// LeaderWait is how long a request waits for a leader, through an
	// election. Default 10 s.
	LeaderWait time.Duration
	// PeerTimeout bounds a question to one other peer. Default 5 s.
	PeerTimeout time.Duration
}

func (c Config) withDefaults() Config {
	if c.DefaultMin == 0 {
		c.DefaultMin = 1
	}
	if c.DefaultMax == 0 {
		c.DefaultMax = max(2, c.DefaultMin)
		if c.DefaultMin == api.Everywhere {
			c.DefaultMax = api.Everywhere
		}
	}
	setDefault(&c.Voters, 5)
	setDefault(&c.SettleTime, 10*time.Second)
	setDefault(&c.LostTime, 20*time.Second)
	setDefault(&c.BelowMinGrace, 2*time.Second)
	setDefault(&c.BelowMaxGrace, 10*time.Minute)
	setDefault(&c.RepairRate, 1000)
	setDefault(&c.LeaderWait, 10*time.Second)
	setDefault(&c.PeerTimeout, 5*time.Second)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Deps are what the use cases work with.
type Deps struct {
	State      *state.Pinset
	Log        Log
	Membership Membership
	Peers      Peers
	Tracker    Tracker
	Node       Node
	Remote     Remote
	Addresses  func() []multiaddr.Multiaddr  // where other peers can dial this one, without /p2p
	Connected  func(peer.ID) bool            // whether there is a connection to another peer; nil: not told
	Term       func() (term, leaders uint64) // of the agreement, and how many leaders this peer has known; nil: not told
	Backup     func() api.BackupReport       // how backups by the clock go; nil: this peer makes none
	Conditions func() []api.Condition        // what is wrong with this peer's parts now; nil: not told
	Logger     *slog.Logger
	Wall       func() time.Time // the machine's clock, for times that are stored; nil: time.Now
}

// Cluster answers the requests that reach this peer.
type Cluster struct {
	cfg         Config
	state       *state.Pinset
	log         Log
	membership  Membership
	peers       Peers
	tracker     Tracker
	node        Node
	remote      Remote
	addresses   func() []multiaddr.Multiaddr
	term        func() (term, leaders uint64)
	backup      func() api.BackupReport
	logger      *slog.Logger
	wall        func() time.Time
	declines    declines
	progress    progress
	conditions  conditions
	turns       turns
	silences    silences
	following   following
	leading     *confirmations // for refusals: this peer leads
	standing    *confirmations // for strangers: what a majority knows
	clock       clock
	expiryWaits atomic.Pointer[string] // why nothing expires; nil: it does, or this peer does not lead
	connected   func(peer.ID) bool

	// written is the highest index that a write through this peer was told,
	// so that its next reads here can wait for it (read your writes).
	written atomic.Uint64
	repairs repairs
}

// New returns the use cases of one peer; it starts nothing.
func New(cfg Config, deps Deps) (*Cluster, error) {
	cfg = cfg.withDefaults()
	if err := api.ValidateFactors(cfg.DefaultMin, cfg.DefaultMax); err != nil {
		return nil, err
	}
	logger := deps.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	wall := deps.Wall
	if wall == nil {
		wall = time.Now
	}
	c := &Cluster{cfg: cfg, state: deps.State, log: deps.Log, membership: deps.Membership, peers: deps.Peers,
		tracker: deps.Tracker, node: deps.Node, remote: deps.Remote, addresses: deps.Addresses, term: deps.Term, backup: deps.Backup,
		conditions: conditions{tell: deps.Conditions}, connected: deps.Connected, logger: logger, wall: wall}
	c.conditions.own, c.clock = c.ownConditions, newClock(wall)
	c.leading, c.standing = newConfirmations(func(ctx context.Context) (uint64, error) { return c.log.ReadIndex(ctx) }), newConfirmations(c.ReadIndex)
	return c, nil
}

// onLeader runs a request where the leader is. A request may be repeated: it
// carries an id, so the second of two returns the first one's result. It gives
// up after LeaderWait, and then says unknown_outcome if the request may have
// been carried out. So does it for the refusal of a later attempt, unless the
// code is one of those that are certain: the log remembers them by the id.
func onLeader[T any](ctx context.Context, c *Cluster, here func(context.Context) (T, error), there func(context.Context, peer.ID) (T, error), certain ...api.Code) (T, error) {
	var result T
	var err error
	ambiguous := false
	patience := time.Now().Add(c.cfg.LeaderWait)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		leader, known := c.log.Leader()
		switch {
		case !known:
			err = api.Errorf(api.CodeNoLeader, "the cluster has no leader now: a majority of its voters must be reachable; 'cluster-ctl peers ls' shows who is")
		case leader == c.cfg.Self:
			result, err = here(ctx)
		default:
			result, err = forward(ctx, c, leader, there)
		}
		switch code := api.CodeOf(err); code {
		case api.CodeNoLeader:
		case api.CodeUnavailable, api.CodeUnknownOutcome:
			ambiguous = true
		default:
			if err == nil || !ambiguous || slices.Contains(certain, code) {
				return result, err
			}
			// This attempt was refused; an earlier one may have been carried out.
			return result, unknown(err)
		}
		if time.Now().Add(pause).After(patience) || !sleep(ctx, pause) {
			break
		}
	}
	if ambiguous && !errors.Is(err, api.ErrUnknownOutcome) {
		err = unknown(err)
	}
	return result, err
}

func unknown(err error) error {
	return api.Errorf(api.CodeUnknownOutcome, "the leader was lost while it worked on this; the change may or may not have been made, and it is safe to ask again: %w", err)
}

// leaderPoll is how often a forwarded request looks who leads.
const leaderPoll = 100 * time.Millisecond

// forward asks the leader, and gives up on it when the log knows another one:
// of a machine that is dead or cut off nobody would say so for a long time.
func forward[T any](ctx context.Context, c *Cluster, leader peer.ID, there func(context.Context, peer.ID) (T, error)) (T, error) {
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		for sleep(ctx, leaderPoll) {
			if now, known := c.log.Leader(); known && now != leader {
				cancel()
			}
		}
	})
	defer watching.Wait()
	defer cancel()
	return there(ctx, leader)
}

// sleep waits, and says whether the time passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// sawWrite remembers an index for later reads through this peer.
func (c *Cluster) sawWrite(index uint64) {
	for {
		old := c.written.Load()
		if index <= old || c.written.CompareAndSwap(old, index) {
			return
		}
	}
}

// catchUpWait is longer than raft's longest pause before it talks again to a
// follower that was away (10.24 s).
const catchUpWait = 12 * time.Second

// catchUp waits until this peer has applied what was written through it: a
// follower learns of a commit a little after the leader, and one that has just
// come back some seconds after it.
func (c *Cluster) catchUp(ctx context.Context) {
	index := c.written.Load()
	if index <= c.state.Applied() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpWait)
	defer cancel()
	_ = c.log.WaitApplied(ctx, index) // late is better than never: answer from what is here
}

// NewRequestID returns a random id for a request that brought none.
func NewRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// view returns what is known of a peer, if anything is.
func (c *Cluster) view(id peer.ID) (api.PeerView, bool) {
	view := c.peers.View()
	i := slices.IndexFunc(view, func(v api.PeerView) bool { return v.Report.Peer == id })
	if i < 0 {
		return api.PeerView{}, false
	}
	return view[i], true
}
