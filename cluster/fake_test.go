package cluster

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
	"holdfast/state"
)

// world is a cluster whose log is a queue in memory: what is proposed is
// applied at once. The peer under test is the first one.
type world struct {
	t       *testing.T
	state   *state.Pinset
	cluster *Cluster
	tracker *fakeTracker
	others  map[peer.ID]*fakeTracker
	members []api.RaftMember
	view    []api.PeerView
	applied map[peer.ID]uint64 // of peers that are behind; the others have all
	changed chan struct{}

	mu     sync.Mutex
	index  uint64
	leader peer.ID
	// before is called before a command gets its place in the log.
	before func()
	// seen is called, once, after somebody has looked at the peers.
	seen func()
	// deposed is called, once, when a read is to be confirmed, which then fails.
	deposed func()
	// pace is how long a command takes to get its place in the log.
	pace time.Duration
	// reading is how long a read takes to be confirmed; then it is an entry, too.
	reading time.Duration
	// lose makes proposals end without an answer after they were applied.
	lose      int
	forwarded int
	// transfer is what becomes of leadership.
	transfer func(to peer.ID) error
	reports  int
	// confirmed is how long ago the leader answered; negative: never.
	confirmed time.Duration
}

func testPeer(i int) peer.ID {
	digest, err := multihash.Sum(fmt.Append(nil, "peer", i), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return peer.ID(digest)
}

func testCid(i int) api.Cid {
	digest, err := multihash.Sum(fmt.Append(nil, "cid", i), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return api.NewCid(cid.NewCidV1(cid.Raw, digest))
}

// newWorld makes a cluster of n peers, all up with free space.
func newWorld(t *testing.T, n int, change func(*Config)) *world {
	t.Helper()
	pinset, err := state.Open(vfs.NewMem(), "state")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pinset.Close() })
	w := &world{t: t, state: pinset, tracker: newFakeTracker(), others: map[peer.ID]*fakeTracker{}, applied: map[peer.ID]uint64{},
		leader: testPeer(0), changed: make(chan struct{}), transfer: func(peer.ID) error { return nil }}
	for i := range n {
		id := testPeer(i)
		w.members = append(w.members, api.RaftMember{ID: id, Voter: true})
		w.view = append(w.view, api.PeerView{State: api.PeerUp, Report: api.PeerReport{Peer: id, Name: fmt.Sprint("peer", i), FreeBytes: 1 << 30}})
		if i > 0 {
			w.others[id] = newFakeTracker()
		}
	}
	cfg := Config{Self: testPeer(0), Name: "peer0", ClusterID: "test"}
	if change != nil {
		change(&cfg)
	}
	w.cluster, err = New(cfg, Deps{State: pinset, Log: w, Membership: w, Peers: w, Tracker: w.tracker, Node: fakeNode{}, Remote: remote{world: w},
		Addresses: func() []multiaddr.Multiaddr { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cluster.found(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.propose(state.CreateTokenCommand{ExpiresAt: time.Now().Add(time.Hour), Reusable: true}.Encode())
	for i := 1; i < n; i++ {
		w.propose(state.JoinCommand{At: time.Now(), Member: api.Member{ID: testPeer(i), Name: fmt.Sprint("peer", i)}}.Encode())
	}
	return w
}

func (w *world) propose(command []byte) (uint64, any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	results, err := w.state.Apply(w.index, [][]byte{command})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.index, results[0]
}

func (w *world) Propose(_ context.Context, command []byte) (uint64, any, error) {
	w.mu.Lock()
	hook := w.before
	w.before = nil
	w.mu.Unlock()
	if hook != nil {
		hook()
	}
	if w.pace > 0 {
		time.Sleep(w.pace)
	}
	if !w.IsLeader() {
		return 0, nil, api.Errorf(api.CodeNoLeader, "leadership lost before anything was logged")
	}
	index, result := w.propose(command)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lose > 0 {
		w.lose--
		return 0, nil, api.Errorf(api.CodeUnknownOutcome, "leadership lost")
	}
	return index, result, nil
}

// ProposeAll makes each command an entry of its own.
func (w *world) ProposeAll(ctx context.Context, commands [][]byte) ([]any, error) {
	var results []any
	for _, command := range commands {
		_, result, err := w.Propose(ctx, command)
		if err != nil {
			return nil, err
		}
		results = append(results, result)
	}
	return results, nil
}

func (w *world) Leader() (peer.ID, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leader, w.leader != ""
}

func (w *world) setLeader(id peer.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.leader = id
}

func (w *world) IsLeader() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leader == testPeer(0)
}

func (w *world) WaitApplied(context.Context, uint64) error              { return nil }
func (w *world) AddLearner(context.Context, peer.ID) error              { return nil }
func (w *world) TransferLeadership(_ context.Context, to peer.ID) error { return w.transfer(to) }
func (w *world) AddVoter(_ context.Context, id peer.ID) error           { return w.vote(id) }
func (w *world) get(c api.Cid) api.Pin                                  { p, _, _ := w.state.Get(c.Cid); return p }

func (w *world) setState(i int, s api.PeerState) {
	w.change(i, func(view *api.PeerView) { view.State = s })
}

// down makes a peer one that is down since now.
func (w *world) down(i int) {
	w.change(i, func(view *api.PeerView) { view.State, view.Since = api.PeerDown, time.Now() })
}

// change changes what is known of a peer.
func (w *world) change(i int, change func(*api.PeerView)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.view[i])
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *world) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *world) ReadIndex(context.Context) (uint64, error) {
	w.mu.Lock()
	if hook := w.deposed; hook != nil {
		w.deposed = nil
		w.mu.Unlock()
		hook()
		return 0, api.Errorf(api.CodeNoLeader, "deposed")
	}
	if w.reading > 0 {
		w.index++ // an entry without commands
		w.mu.Unlock()
		time.Sleep(w.reading)
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	return w.index, nil
}

func (w *world) View() []api.PeerView {
	w.mu.Lock()
	view, seen := slices.Clone(w.view), w.seen
	w.seen = nil
	if seen != nil {
		defer seen()
	}
	defer w.mu.Unlock()
	for i := range view {
		view[i].Report.Applied = w.index
		if applied, behind := w.applied[view[i].Report.Peer]; behind {
			view[i].Report.Applied = applied
		}
	}
	return view
}

func (w *world) Members() []api.RaftMember {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.members)
}

func (w *world) Report(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports++
	return nil
}

func (w *world) Confirmed() (time.Duration, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.confirmed, w.confirmed >= 0
}

func (w *world) Demote(_ context.Context, id peer.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.members {
		if w.members[i].ID == id {
			w.members[i].Voter = false
		}
	}
	return nil
}
func (w *world) Remove(_ context.Context, id peer.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.members = slices.DeleteFunc(w.members, func(m api.RaftMember) bool { return m.ID == id })
	return nil
}

func (w *world) vote(id peer.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.members {
		if w.members[i].ID == id {
			w.members[i].Voter = true
		}
	}
	return nil
}

// remote is what other peers answer; methods that no test uses are missing.
type remote struct {
	Remote
	world *world
}

func (r remote) Pin(_ context.Context, _ peer.ID, _ api.PinRequest) (api.PinResult, error) {
	r.world.mu.Lock()
	defer r.world.mu.Unlock()
	r.world.forwarded++
	r.world.leader = testPeer(0) // the other one is not the leader any more; it is us
	return api.PinResult{}, api.Errorf(api.CodeNoLeader, "not the leader")
}

func (r remote) Status(_ context.Context, to peer.ID, c api.Cid) (api.PinInfo, error) {
	t := r.world.others[to]
	if t.err != nil {
		return api.PinInfo{}, t.err
	}
	short, _, _ := t.Status(c.Cid)
	return api.PinInfo{Cid: c, Peer: to, PinInfoShort: short}, nil
}

func (r remote) StatusAll(_ context.Context, to peer.ID, q api.StatusQuery) iter.Seq2[api.PinInfo, error] {
	return r.world.others[to].StatusAll(q)
}

// fakeTracker is a list of statuses in the order of CIDs; it fails after some.
type fakeTracker struct {
	infos []api.PinInfo
	err   error
	after int // statuses that StatusAll gives before err
}

func newFakeTracker() *fakeTracker { return &fakeTracker{} }

func (f *fakeTracker) set(c api.Cid, s api.TrackerStatus) {
	f.infos = append(f.infos, api.PinInfo{Cid: c, PinInfoShort: api.PinInfoShort{Status: s}})
	slices.SortFunc(f.infos, func(a, b api.PinInfo) int { return slices.Compare(a.Cid.Bytes(), b.Cid.Bytes()) })
}

func (f *fakeTracker) Status(c cid.Cid) (api.PinInfoShort, bool, error) {
	for _, info := range f.infos {
		if info.Cid.Cid == c {
			return info.PinInfoShort, true, nil
		}
	}
	return api.PinInfoShort{}, false, nil
}

func (f *fakeTracker) StatusAll(q api.StatusQuery) iter.Seq2[api.PinInfo, error] {
	return func(yield func(api.PinInfo, error) bool) {
		for i, info := range f.infos {
			if f.err != nil && i >= f.after {
				yield(api.PinInfo{}, f.err)
				return
			}
			if slices.Compare(info.Cid.Bytes(), q.After.Bytes()) <= 0 || !info.Status.Match(q.Filter) {
				continue
			}
			if !yield(info, nil) {
				return
			}
		}
		if f.err != nil {
			yield(api.PinInfo{}, f.err)
		}
	}
}

func (f *fakeTracker) Recover(cid.Cid) (bool, error) { return true, nil }
func (f *fakeTracker) RecoverAll() iter.Seq2[api.PinInfo, error] {
	return f.StatusAll(api.StatusQuery{})
}
func (f *fakeTracker) Queued() uint64 { return 0 }

type fakeNode struct{}

func (fakeNode) ID() peer.ID                      { return testPeer(100) }
func (fakeNode) Addresses() []multiaddr.Multiaddr { return nil }
func (fakeNode) Resolve(context.Context, string) (cid.Cid, error) {
	return cid.Undef, api.Errorf(api.CodeNotFound, "no such path")
}
func (fakeNode) RepoStat(context.Context) (api.RepoStat, error) { return api.RepoStat{}, nil }
func (fakeNode) Free(context.Context) (uint64, error)           { return 1 << 30, nil }
func (fakeNode) GC(context.Context, func(api.RepoGCKey)) error  { return nil }
func (fakeNode) RepoSize(context.Context) (uint64, error)       { return 0, nil }
