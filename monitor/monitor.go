package monitor

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Sender takes a report to the leader, and brings back its view of all peers.
type Sender interface {
	Report(ctx context.Context, to peer.ID, report api.PeerReport) (api.Digest, error)
}

// Config sets the pace. The zero value of a field takes its default.
type Config struct {
	Self         peer.ID       // this peer; required
	Interval     time.Duration // between reports; 2 s
	SuspectAfter time.Duration // a peer silent for so long is suspect; 5 s. Below two intervals, one lost report is enough
	DownAfter    time.Duration // a peer silent for so long is down; 8 s. Shorter finds failures sooner and takes more pauses for them
}

// trusted is how many good reports in a row make a suspect or down peer up
// again, so that one that flaps is not given work in between.
const trusted = 2

// Events are told what happened; each may be nil. They are called from the
// monitor's goroutines and from Receive, without locks, and must be quick.
type Events struct {
	// StateChanged tells, on the leader only, of each change of a peer's state
	// once. before is "" for a peer that was not known to this leader.
	StateChanged func(view api.PeerView, before api.PeerState)
	// ReportFailed tells that a report did not reach the leader.
	ReportFailed func(error)
}

// Deps are what a Monitor works with.
type Deps struct {
	Sender  Sender
	Collect func(ctx context.Context) api.PeerReport // what to report of this peer
	Leader  func() (peer.ID, bool)                   // who leads now; false: nobody
	Members func() []peer.ID                         // who belongs to the cluster
	Events  Events
	Logger  *slog.Logger
	Wall    func() time.Time // the machine's clock, with which those of the others are compared; nil: time.Now
}

// Monitor sends this peer's reports, judges all peers while this one leads,
// and keeps the leader's judgement otherwise. Its methods may be called at any
// time from any goroutine.
type Monitor struct {
	cfg     Config
	sender  Sender
	collect func(context.Context) api.PeerReport
	leader  func() (peer.ID, bool)
	members func() []peer.ID
	events  Events
	logger  *slog.Logger
	wall    func() time.Time

	mu       sync.Mutex
	changed  chan struct{}
	leading  bool
	peers    map[peer.ID]*subject // while it leads
	digest   []api.PeerView       // while another leads: what it said last
	digestAt time.Time            // when the digest was true; zero: there is none
	polled   time.Time
	untold   []transition
	telling  bool
}

type transition struct {
	view   api.PeerView
	before api.PeerState
}

// subject is a peer that is judged.
type subject struct {
	view  api.PeerView
	heard time.Time // when its last report came; when it became a member or this peer leader, if none came
	mute  bool      // this leader has not heard of it yet
	fresh bool      // no leader has had a report of a working node of it: the first one is enough
	good  int       // reports in a row, without a gap and from a working node
}

// New makes a Monitor; Run starts it. All Deps but Events and Logger are required.
func New(cfg Config, deps Deps) *Monitor {
	if cfg.Interval == 0 {
		cfg.Interval = 2 * time.Second
	}
	if cfg.SuspectAfter == 0 {
		cfg.SuspectAfter = 5 * time.Second
	}
	if cfg.DownAfter == 0 {
		cfg.DownAfter = 8 * time.Second
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Wall == nil {
		deps.Wall = time.Now
	}
	return &Monitor{wall: deps.Wall, cfg: cfg, sender: deps.Sender, collect: deps.Collect, leader: deps.Leader,
		members: deps.Members, events: deps.Events, logger: deps.Logger, changed: make(chan struct{})}
}
