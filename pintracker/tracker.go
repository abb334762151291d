package pintracker

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"holdfast/api"
)

// Source is the pinset: what should be here.
type Source interface {
	Get(cid.Cid) (api.Pin, bool, error)
	GetMany([]cid.Cid, []api.Pin) error           // into as many places, in their order; revision 0: there is none
	Pins(api.PinFilter) iter.Seq2[api.Pin, error] // in the order of CIDs' bytes
	Changes(since uint64) ([]api.Change, bool)    // false: it no longer reaches back that far
	Changed() <-chan struct{}                     // closed at the next change
	Applied() uint64
}

// Node is the IPFS node: what is here.
type Node interface {
	// Fetch returns nil when all that the pin keeps is in the local store.
	// progress takes the totals so far and may be called from any goroutine.
	Fetch(ctx context.Context, pin api.Pin, holders []peer.AddrInfo, progress func(blocks, bytes uint64)) error
	// Pin has pinned all of them, durably, or returns an error. It replaces a
	// pin of another mode.
	Pin(ctx context.Context, pins []api.Pin) error
	// Unpin has let go of all of them; what was not pinned counts as such.
	Unpin(ctx context.Context, cids []cid.Cid) error
	Repository
}

// Repository is where the node keeps what it has. It can be lost, exchanged or
// damaged behind the tracker's back.
type Repository interface {
	// RepoID names it: an emptied or another one has another name.
	RepoID(ctx context.Context) (string, error)
	// Kept says which of these the node has pinned, in their order.
	Kept(ctx context.Context, cids []cid.Cid) ([]bool, error)
	// Check returns the first block of a pin that is not there, or the undefined
	// CID. pace is told how many blocks and bytes were read since the last time,
	// and may wait.
	Check(ctx context.Context, pin api.Pin, pace func(ctx context.Context, blocks int, bytes uint64) error) (missing cid.Cid, err error)
	// Damaged are the blocks whose bytes were found to be wrong; Check calls
	// them missing. DamageFound receives when there are more of them.
	Damaged() []cid.Cid
	DamageFound() <-chan struct{}
}

// Holders says who surely or likely has the blocks of a pin.
type Holders func(api.Pin) []peer.AddrInfo

// Released says whether this peer may let go of a pin that others hold now:
// enough of them have it. It is asked for pins that moved, not for those that
// were removed.
type Released func(ctx context.Context, pin api.Pin) bool

// Config bounds the work. The zero value of a field takes its default.
type Config struct {
	Self       peer.ID       // this peer, as pins are allocated to it; required
	Workers    int           // fetches that receive blocks at one time; 32. More helps small pins, which wait for round trips
	Patience   time.Duration // a fetch that gets no block for so long has failed; 2 min
	RetryMin   time.Duration // delay after the first failure, doubled with each further one; 10 s
	RetryMax   time.Duration // longest of those delays; 1 h
	DeadAfter  int           // after so many failures a pin is retried only every DeadDelay; 12
	DeadDelay  time.Duration // 6 h
	CacheBytes int64         // of the status store; 16 MiB
	WalkPace   int           // blocks of 256 KiB in a second that the slow walk reads at most, or smaller ones; 50
	WalkEvery  time.Duration // from the beginning of one walk to that of the next, if it is done by then; 3 days
	Rand       *rand.Rand    // for jitter; nil: seeded by the system. Used by this tracker alone
}

// What is not worth a knob.
const (
	batchSize   = 500                  // pins in one call of Node.Pin or Node.Unpin
	maxFetched  = 4 * batchSize        // pins that are fetched and wait for Node.Pin
	parkAfter   = 3 * time.Second      // without a block for so long, a fetch takes no worker
	parkedPer   = 8                    // parked fetches per worker
	youngPin    = 24 * time.Hour       // pins younger than this go before a backlog
	spacePause  = 30 * time.Second     // no new fetches after the disk was full
	breath      = time.Millisecond / 2 // between rounds, so that a round has something to batch
	handOver    = 10 * time.Second     // between two questions whether a pin that moved may be dropped
	askAtOnce   = 32                   // such questions at a time
	stopGrace   = 10 * time.Second     // Node.Pin and Node.Unpin may finish when the tracker stops
	surveyTime  = 2 * time.Second      // of looking for the node's pins before anything is said of them
	lookAgain   = 10 * time.Second     // after the repository could not be asked
	maxAsked    = 1 << 14              // pins that were pinned again and wait for a look; more make it a walk
	askedPace   = 1000                 // blocks in a second for those, at most
	askedBytes  = 32 << 20             // and bytes: a third of what an old disk can read
	damagePace  = 5000                 // blocks in a second when damage was found
	damageBytes = 64 << 20             // and bytes
	walkBlock   = 256 << 10            // bytes of a block as files are cut into, for the slow walk
	damageGrace = time.Second          // for the pins that were found at once to be mended, before all are looked at
	damageWait  = time.Hour            // until the next walk while there is damage that nobody mends
	recoverFor  = 2 * time.Second      // Recover waits so long for what is found
	walkNoted   = time.Minute          // how much of the slow walk a crash may repeat
)

// Events are told what happened. Each may be nil; they are called from the
// tracker's goroutines, without locks, and must be quick.
type Events struct {
	Pinned       func(api.PinInfo)
	Failed       func(api.PinInfo) // an attempt to pin or unpin failed
	Unpinned     func(cid.Cid)
	QueueChanged func(queued uint64)
}

// Deps are what a Tracker works with.
type Deps struct {
	Source  Source
	Node    Node
	Holders Holders // nil: nobody is known to have anything
	// Released is asked before a pin that moved away is dropped here; nil: it
	// may be dropped at once.
	Released Released
	FS       vfs.FS // nil: the real one
	Dir      string // of the status store
	Logger   *slog.Logger
	Events   Events
	Wall     func() time.Time // the machine's clock, which may jump; nil: time.Now
}

// Tracker makes the node converge to the pinset. All its methods may be called
// at any time from any goroutine.
type Tracker struct {
	cfg     Config
	source  Source
	node    Node
	holders Holders
	release Released
	logger  *slog.Logger
	events  Events
	clock   clock
	store   *store

	wakeFetch, wakeCommit, wakeUnpin, wakeDiff, wakeAsked, wakeHurry chan struct{}

	known      chan struct{} // closed when the records are about this repository
	recognized sync.Once     // closes it

	mu      sync.Mutex // held while a record is read and written
	policy  policy
	ops     map[string]*op
	active  [classes]int // fetches that take a worker
	parked  int
	fetched []*op // wait for Node.Pin
	turn    uint
	paused  int64 // no new fetches before this tick
	queues  [classes]queue
	looked  []api.Pin // up to chunk of them, kept for their memory
	queued  uint64    // what Events.QueueChanged was last told
	looks   asked
	hurry   bool // all pins are to be looked at soon
	did     counters
}

// New opens the status store. Close must be called in the end, after Run returned.
func New(cfg Config, deps Deps) (*Tracker, error) {
	if cfg.Self == "" || deps.Source == nil || deps.Node == nil || deps.Dir == "" {
		return nil, errors.New("pintracker: Self, Source, Node and Dir are required")
	}
	setDefault(&cfg.Workers, 32)
	setDefault(&cfg.Patience, 2*time.Minute)
	setDefault(&cfg.RetryMin, 10*time.Second)
	setDefault(&cfg.RetryMax, time.Hour)
	setDefault(&cfg.DeadAfter, 12)
	setDefault(&cfg.DeadDelay, 6*time.Hour)
	setDefault(&cfg.CacheBytes, 16<<20)
	setDefault(&cfg.WalkPace, 50)
	setDefault(&cfg.WalkEvery, 72*time.Hour)
	if cfg.Rand == nil {
		cfg.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	if deps.FS == nil {
		deps.FS = vfs.Default
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Holders == nil {
		deps.Holders = func(api.Pin) []peer.AddrInfo { return nil }
	}
	if deps.Released == nil {
		deps.Released = func(context.Context, api.Pin) bool { return true }
	}
	if deps.Wall == nil {
		deps.Wall = time.Now
	}
	store, err := openStore(deps.FS, deps.Dir, cfg.CacheBytes, deps.Logger)
	if err != nil {
		return nil, err
	}
	t := &Tracker{
		cfg: cfg, source: deps.Source, node: deps.Node, holders: deps.Holders, release: deps.Released,
		logger: deps.Logger, events: deps.Events, clock: clock{wall: deps.Wall}, store: store,
		wakeFetch: make(chan struct{}, 1), wakeCommit: make(chan struct{}, 1),
		wakeUnpin: make(chan struct{}, 1), wakeDiff: make(chan struct{}, 1),
		wakeAsked: make(chan struct{}, 1), wakeHurry: make(chan struct{}, 1), known: make(chan struct{}),
		policy: policy{retryMin: cfg.RetryMin, retryMax: cfg.RetryMax, deadDelay: cfg.DeadDelay,
			deadAfter: uint64(cfg.DeadAfter), young: youngPin, rand: cfg.Rand},
		ops: make(map[string]*op), did: counters{failed: map[api.Code]uint64{}},
	}
	return t, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Close closes the status store; everything that asks for a status afterwards
// gets an error with code unavailable.
func (t *Tracker) Close() error { return t.store.close() }

// Run converges until ctx ends, and returns when everything it started is
// gone. What was under way is taken up again by the next Run. The error is nil
// when ctx ended, else it is one of the store or the source, which a peer
// cannot go on with.
func (t *Tracker) Run(ctx context.Context) error {
	if err := t.reset(); err != nil {
		return err
	}
	rest, err := t.recognize(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	index, err := t.catchUp(ctx)
	if err != nil || ctx.Err() != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	wake(t.wakeDiff)
	g.Go(func() error { return t.follow(gctx, index) })
	g.Go(func() error { return t.diffs(gctx) })
	g.Go(func() error { return t.fetchAll(gctx) })
	g.Go(func() error { return t.commitAll(gctx) })
	g.Go(func() error { return t.unpinAll(gctx) })
	g.Go(func() error { return t.surveyRest(gctx, rest) })
	g.Go(func() error { return t.checkAsked(gctx) })
	g.Go(func() error { return t.hurriedWalks(gctx) })
	g.Go(func() error { return t.slowWalks(gctx) })
	err = g.Wait()
	if stopped := t.stop(); err == nil {
		err = stopped
	}
	return err
}

// reset puts what a crash interrupted back into the queues.
func (t *Tracker) reset() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queues = [classes]queue{}
	for i := range t.queues {
		t.queues[i].class, t.queues[i].full = class(i), true
	}
	return t.requeueInterrupted()
}

// stop puts what was fetched and could no longer be pinned back into the queues.
func (t *Tracker) stop() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.ops)
	t.fetched, t.active, t.parked = nil, [classes]int{}, 0
	return t.requeueInterrupted()
}

func (t *Tracker) requeueInterrupted() error {
	for after := ""; ; {
		page, err := t.store.page(api.StatusPinning|api.StatusUnpinning, after, batchSize)
		if err != nil || len(page) == 0 {
			return err
		}
		b := t.store.batch()
		for _, e := range page {
			rec := e.rec
			if rec.status == api.StatusPinning {
				rec = aborted(rec, t.clock.tick())
			} else {
				rec.status, rec.class, rec.due = api.StatusUnpinQueued, classUnpin, t.clock.tick()
			}
			if err := b.put(e.cid, &e.rec, &rec); err != nil {
				return fmt.Errorf("requeue: %w", err)
			}
			after = e.cid
		}
		if err := b.commit(); err != nil {
			return err
		}
	}
}

// wanted reads what the pinset asks of this peer.
func (t *Tracker) wanted(key string) (api.Pin, bool, error) {
	c, err := castKey(key)
	if err != nil {
		return api.Pin{}, false, err
	}
	pin, found, err := t.source.Get(c)
	if err != nil {
		return api.Pin{}, false, fmt.Errorf("read pinset: %w", err)
	}
	pin, wanted := t.asked(pin, found)
	return pin, wanted, nil
}

// asked says what a pin of the pinset asks of this peer.
func (t *Tracker) asked(pin api.Pin, found bool) (api.Pin, bool) {
	if pin.Mode == "" {
		pin.Mode = api.ModeRecursive
	}
	return pin, found && pin.AllocatedTo(t.cfg.Self)
}

func castKey(key string) (cid.Cid, error) {
	c, err := cid.Cast([]byte(key))
	if err != nil {
		return cid.Undef, fmt.Errorf("status record of no CID %x: %w", key, err)
	}
	return c, nil
}

// wake makes a goroutine look again; it is enough to tell it once.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
