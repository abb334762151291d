package conformance

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Node is what the suite asks of an implementation.
type Node interface {
	ID() peer.ID
	Ready() <-chan struct{}
	Run(ctx context.Context) error
	Peer(infos []peer.AddrInfo)
	Fetch(ctx context.Context, pin api.Pin, holders []peer.AddrInfo, progress func(blocks, bytes uint64)) error
	Pin(ctx context.Context, pins []api.Pin) error
	Unpin(ctx context.Context, cids []cid.Cid) error
	Pinned(ctx context.Context, c cid.Cid) (bool, error)
	Kept(ctx context.Context, cids []cid.Cid) ([]bool, error)
	Check(ctx context.Context, pin api.Pin, pace func(ctx context.Context, blocks int, bytes uint64) error) (missing cid.Cid, err error)
	Complete(ctx context.Context, pin api.Pin) (bool, cid.Cid, error)
	PutBlocks(ctx context.Context, bs []blocks.Block) error
	Sync(ctx context.Context) error
	Lease(ctx context.Context) (func(), error)
	Resolve(ctx context.Context, path string) (cid.Cid, error)
	RepoStat(ctx context.Context) (api.RepoStat, error)
	Free(ctx context.Context) (uint64, error)
	GC(ctx context.Context, report func(api.RepoGCKey)) error
	RepoID(ctx context.Context) (string, error)
	Damaged() []cid.Cid
	DamageFound() <-chan struct{}
}

// Store is what survives one node, and makes the next on it.
type Store interface {
	// New makes a node on the store; the one before has ended.
	New(t *testing.T, o Options) Node
	// Info is how others reach a running node of this store.
	Info(n Node) peer.AddrInfo
	// PinByUser pins as a user of the running node would, past the cluster;
	// mode "" unpins. PinnedByUser is the mode of such a pin, or "".
	PinByUser(t *testing.T, n Node, c cid.Cid, mode api.PinMode)
	PinnedByUser(t *testing.T, n Node, c cid.Cid) api.PinMode
	// Damage spoils a block's bytes on the disk and has the running node find it.
	Damage(t *testing.T, n Node, c cid.Cid)
	// Wipe empties the store; no node runs on it.
	Wipe(t *testing.T)
}

// Options of a node.
type Options struct {
	StallTimeout time.Duration
	StallLimit   int
	LeaseLinger  time.Duration
	StorageMax   uint64 // 0: none
	Wanted       func(keep func(api.Pin) bool) error
}

// Suite runs the tests on the implementation whose fresh stores newStore makes.
// run runs one test, in the surroundings that it needs.
func Suite(t *testing.T, newStore func(t *testing.T) Store, run func(t *testing.T, test func(t *testing.T))) {
	for _, test := range []struct {
		name string
		body func(*env)
	}{
		{"not open", notOpen},
		{"fetch a tree", fetchTree},
		{"fetch what is local already", fetchLocal},
		{"fetch the one block of a direct pin", fetchDirect},
		{"fetch an identity CID", fetchIdentity},
		{"fetch many small pins at once", fetchMany},
		{"fetch goes on from what is local", fetchResumes},
		{"fetch what nobody has", fetchNobody},
		{"fetch starts again when the block appears", fetchAppears},
		{"fetch ends with its context", fetchCancelled},
		{"fetch what cannot be decoded", fetchUndecodable},
		{"fetch into a full store", fetchFull},
		{"fetch a deep tree", fetchDeep},
		{"pins survive a restart", pinsSurvive},
		{"pin and unpin are idempotent", pinIdempotent},
		{"pin changes its mode", pinChangesMode},
		{"pins of the user are not touched", userPins},
		{"collection removes what nothing keeps", gcRemoves},
		{"collection keeps what is being fetched", gcKeepsFetch},
		{"collection keeps what was fetched and not pinned yet", gcKeepsFetched},
		{"collection waits for a lease", gcWaits},
		{"collection keeps what is wanted", gcKeepsWanted},
		{"what is kept is looked at", check},
		{"the repository has an ID", repoID},
		{"a damaged block is missing until it is replaced", damagedBlock},
		{"resolve", resolve},
		{"bad CIDs", badCids},
	} {
		t.Run(test.name, func(t *testing.T) {
			run(t, func(t *testing.T) {
				e := &env{T: t, newStore: newStore}
				defer e.stopAll()
				test.body(e)
			})
		})
	}
}

// env is one test.
type env struct {
	*testing.T
	newStore func(*testing.T) Store
	running  []*instance
}

// instance is a running node.
type instance struct {
	Node
	store Store
	stop  func()
}

func (e *env) start(o Options) *instance { return e.startOn(e.newStore(e.T), o) }

func (e *env) startOn(s Store, o Options) *instance {
	e.Helper()
	if o.StallTimeout == 0 {
		o.StallTimeout = 5 * time.Second
	}
	if o.LeaseLinger == 0 {
		o.LeaseLinger = time.Millisecond
	}
	n := s.New(e.T, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	select {
	case <-n.Ready():
	case err := <-ended:
		cancel()
		e.Fatalf("the node did not open: %v", err)
	}
	i := &instance{Node: n, store: s}
	stopped := false
	i.stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-ended; err != nil {
			e.Errorf("the node ended with %v", err)
		}
	}
	e.running = append(e.running, i)
	return i
}

func (e *env) stopAll() {
	for _, i := range e.running {
		i.stop()
	}
}

// connect makes nodes peers of one another.
func (e *env) connect(nodes ...*instance) {
	var infos []peer.AddrInfo
	for _, n := range nodes {
		infos = append(infos, n.store.Info(n.Node))
	}
	for i, n := range nodes {
		others := append(append([]peer.AddrInfo{}, infos[:i]...), infos[i+1:]...)
		n.Peer(others)
	}
}

func (i *instance) holder() []peer.AddrInfo { return []peer.AddrInfo{i.store.Info(i.Node)} }

func (e *env) ok(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

func (e *env) code(err error, want api.Code) {
	e.Helper()
	if got := api.CodeOf(err); got != want {
		e.Fatalf("code %q of error %v; want %q", got, err, want)
	}
}

func (e *env) complete(n Node, pin api.Pin, want bool) {
	e.Helper()
	complete, missing, err := n.Complete(e.Context(), pin)
	e.ok(err)
	if complete != want {
		e.Fatalf("complete is %v (missing %v); want %v", complete, missing, want)
	}
	if complete == missing.Defined() {
		e.Fatalf("complete is %v and missing %v", complete, missing)
	}
}

func (e *env) pinned(n Node, c cid.Cid, want bool) {
	e.Helper()
	pinned, err := n.Pinned(e.Context(), c)
	e.ok(err)
	if pinned != want {
		e.Fatalf("pinned is %v; want %v", pinned, want)
	}
}

// collect returns how many blocks were removed, and that none failed.
func (e *env) collect(n Node) (removed int) {
	e.Helper()
	var failed error
	e.ok(n.GC(e.Context(), func(k api.RepoGCKey) {
		removed++
		if k.Error != "" {
			failed = errors.Join(failed, fmt.Errorf("%s: %s", k.Key, k.Error))
		}
	}))
	e.ok(failed)
	return removed
}
