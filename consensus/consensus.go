package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Causes of the context that Deps.Lead is given.
var (
	ErrLeadershipEnded = errors.New("this peer is no longer the leader")
	ErrStopped         = errors.New("this peer is stopping")
)

// Deps are what a Log works with.
type Deps struct {
	Machine   Machine
	Transport raft.Transport // Run closes it
	Logs      raft.LogStore
	Stable    raft.StableStore
	FS        vfs.FS // for snapshots
	// Lead does what only the leader does; it may be nil. It is called once
	// this peer has become leader and the machine contains all that was
	// committed before. Its context ends when leadership does, with
	// ErrLeadershipEnded or ErrStopped as cause. The next call, and the end of
	// Run, wait for its return.
	Lead   func(ctx context.Context)
	Logger *slog.Logger
}

// Log is one peer's part in the agreement.
type Log struct {
	config    Config
	deps      Deps
	logger    *slog.Logger
	transport closableTransport
	store     *snapshots
	logs      *fencedLogs
	mark      *watermark
	names     names
	backlog   *backlog
	grown     chan struct{} // has room for one: entries were applied

	met   atomic.Uint64             // leaders, see Stats.LeaderChanges
	raft  atomic.Pointer[raft.Raft] // nil until it has started
	queue chan *proposal
	slots chan struct{} // one for each entry in flight

	started  atomic.Bool
	ready    chan struct{} // closed when raft has started
	stopping chan struct{} // closed when Run begins to end
	done     chan struct{} // closed when Run has ended

	// leading is this peer's last leadership; nil: it never led.
	leading atomic.Pointer[leadership]

	failOnce sync.Once
	failure  error         // set before failed is closed
	failed   chan struct{} // closed by the first fatal error

	// Calls into raft: first they wait for it to take them (handing), then for
	// what comes of them. mu makes sure that none begins once closed is set.
	mu       sync.Mutex
	closed   bool
	handing  counter
	inFlight counter
}

// New checks the configuration. Nothing runs and no file is touched before
// Run, HasState or Bootstrap.
func New(config Config, deps Deps) (*Log, error) {
	config = config.withDefaults()
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("configure consensus: %w", err)
	}
	if deps.Machine == nil || deps.Transport == nil || deps.Logs == nil || deps.Stable == nil || deps.FS == nil {
		return nil, errors.New("configure consensus: a machine, a transport, two stores and a file system are needed")
	}
	recent, err := raft.NewLogCache(entriesCached, deps.Logs)
	if err != nil {
		return nil, fmt.Errorf("configure consensus: %w", err)
	}
	logger := orDiscard(deps.Logger)
	l := &Log{
		config: config, deps: deps, logger: logger,
		transport: fenceTransport(deps.Transport),
		store:     newSnapshots(deps.FS, deps.FS.PathJoin(config.Dir, "snapshots"), logger),
		mark:      newWatermark(),
		backlog:   &backlog{floor: config.TrailingBytes, most: config.TrailingLogs},
		grown:     make(chan struct{}, 1),
		queue:     make(chan *proposal, queueLength),
		slots:     make(chan struct{}, entriesInFlight),
		ready:     make(chan struct{}),
		stopping:  make(chan struct{}),
		done:      make(chan struct{}),
		failed:    make(chan struct{}),
	}
	if v, ok := deps.Machine.(verifier); ok {
		l.store.verify = v.Verify
	}
	l.logs = &fencedLogs{LogStore: recent, fatal: l.fail}
	return l, nil
}

// HasState says whether this peer was ever part of a cluster. It is for before
// Run.
func (l *Log) HasState() (bool, error) {
	last, err := l.deps.Logs.LastIndex()
	if err != nil {
		return false, fmt.Errorf("read last index of the log: %w", err)
	}
	if last > 0 {
		return true, nil
	}
	// A snapshot that cannot be read is one all the same: who has it must not begin
	// another cluster.
	return l.store.any()
}

// Bootstrap makes this peer the founder of a cluster whose voters are ids,
// itself among them. It is for before Run, and conflicts with existing state.
func (l *Log) Bootstrap(ids []peer.ID) error {
	has, err := l.HasState()
	if err != nil {
		return err
	}
	term, err := l.deps.Stable.GetUint64([]byte(keyCurrentTerm))
	if err != nil {
		return fmt.Errorf("read current term: %w", err)
	}
	if has || term > 1 {
		return api.Errorf(api.CodeConflict, "this peer already belongs to a cluster; remove its consensus folder %s to found another", l.config.Dir)
	}
	// A crash in mid-bootstrap leaves term 1 and no log; raft would take that
	// for a member.
	if term == 1 {
		if err := l.deps.Stable.SetUint64([]byte(keyCurrentTerm), 0); err != nil {
			return fmt.Errorf("reset current term: %w", err)
		}
	}
	if err := raft.BootstrapCluster(l.raftConfig(), l.deps.Logs, l.deps.Stable, l.store, l.transport, votersOf(ids)); err != nil {
		return fmt.Errorf("found a cluster: %w", err)
	}
	return nil
}

func (l *Log) raftConfig() *raft.Config {
	config := l.config.raftConfig()
	config.Logger = raftLogger{out: l.logger, name: "raft"}
	return config
}

// Ready is closed when raft has started. There need not be a leader yet.
func (l *Log) Ready() <-chan struct{} { return l.ready }

// Damaged are the folders of this peer's snapshots that are not what they were,
// and what was found. They are passed over, and removed once there are two newer
// ones that are whole.
func (l *Log) Damaged() map[string]error {
	out := map[string]error{}
	for id, why := range l.store.damaged() {
		out[l.store.path(id)] = why
	}
	return out
}

// Leader returns the leader that this peer knows.
func (l *Log) Leader() (peer.ID, bool) {
	r := l.raft.Load()
	if r == nil {
		return "", false
	}
	_, id := r.LeaderWithID()
	leader, err := l.names.decode(id)
	return leader, err == nil
}

// IsLeader says whether this peer may decide: it thinks that it leads, and its
// machine contains all that earlier leaders committed. Only a commit proves
// that it still leads: see ReadIndex.
func (l *Log) IsLeader() bool {
	current := l.leading.Load()
	if current == nil || !current.decides.Load() || !l.elected() {
		return false
	}
	select {
	case <-current.ended:
		return false
	default:
		return true
	}
}

// elected says whether this peer thinks that it leads, however far its machine
// is.
func (l *Log) elected() bool {
	r := l.raft.Load()
	return r != nil && r.State() == raft.Leader
}

// WaitApplied returns once the machine contains everything up to an index that
// Propose or ReadIndex returned here or on another peer.
func (l *Log) WaitApplied(ctx context.Context, index uint64) error {
	for {
		have, changed := l.mark.get()
		if have >= index {
			return nil
		}
		select {
		case <-changed:
		case <-l.done:
			return api.Errorf(api.CodeUnavailable, "wait for index %d: %w", index, ErrStopped)
		case <-ctx.Done():
			return api.Errorf(api.CodeUnavailable, "wait for index %d, this peer is at %d: %w", index, have, context.Cause(ctx))
		}
	}
}

// Stats tell how the log stands on this peer. All are zero before Ready.
type Stats struct {
	State         string // Follower, Candidate, Leader or Shutdown
	Term          uint64
	LeaderChanges uint64 // how often this peer came to know a leader since it started, be it the same again
	LastIndex     uint64 // of the log, committed or not
	CommitIndex   uint64
	AppliedIndex  uint64 // that the machine contains
	SnapshotIndex uint64 // of the newest snapshot on disk; 0: none
	SnapshotBytes int64
	LoggedBytes   int64 // of the entries that were applied since the start
	UnkeptBytes   int64 // of those among them that came after the last snapshot
	Leader        peer.ID
	LastContact   time.Duration // since the leader was heard; 0 on the leader, -1: never
	Queue         int           // proposals that wait to become part of an entry
}

// Stats returns a picture of now, without disk access.
func (l *Log) Stats() Stats {
	r := l.raft.Load()
	if r == nil {
		return Stats{}
	}
	out := Stats{State: r.State().String(), Term: r.CurrentTerm(), LastIndex: r.LastIndex(), CommitIndex: r.CommitIndex(),
		LeaderChanges: l.met.Load(), LastContact: -1, Queue: len(l.queue)}
	out.AppliedIndex, _ = l.mark.get()
	out.SnapshotIndex, _ = l.store.last.get()
	out.SnapshotBytes = l.store.size.Load()
	out.LoggedBytes, out.UnkeptBytes = l.backlog.bytes()
	out.Leader, _ = l.Leader()
	if last := r.LastContact(); r.State() == raft.Leader {
		out.LastContact = 0
	} else if !last.IsZero() {
		out.LastContact = time.Since(last)
	}
	return out
}

// SnapshotTime asks the disk when the newest snapshot was made or came; zero:
// there is none, or it does not say.
func (l *Log) SnapshotTime() time.Time { return l.store.made() }

// fail ends Run with err. The first error counts.
func (l *Log) fail(err error) {
	l.failOnce.Do(func() {
		l.logger.Error("consensus stops: this peer must not go on", "error", err)
		l.failure = err
		close(l.failed)
	})
}

func (l *Log) noLeader() error {
	if leader, ok := l.Leader(); ok && leader != l.config.ID {
		return api.Errorf(api.CodeNoLeader, "this peer is not the leader, %s is; nothing was logged", leader)
	}
	return api.Errorf(api.CodeNoLeader, "there is no leader now; nothing was logged, try again in a moment")
}
