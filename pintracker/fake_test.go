package pintracker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

const (
	self  = peer.ID("self")
	other = peer.ID("other")
)

// nthCid returns the n-th of a fixed list of CIDs.
func nthCid(n int) cid.Cid {
	sum, err := multihash.Sum(binary.BigEndian.AppendUint64(nil, uint64(n)), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(cid.Raw, sum)
}

// fakeSource is a pinset in memory. Its feed keeps only so many changes.
type fakeSource struct {
	mu      sync.Mutex
	pins    map[string]api.Pin
	index   uint64
	feed    []api.Change
	dropped uint64 // the last index that is no longer in the feed
	keep    int
	changed chan struct{}
	age     time.Duration // of new pins
}

func newSource(keep int) *fakeSource {
	return &fakeSource{pins: map[string]api.Pin{}, keep: keep, changed: make(chan struct{})}
}

func (s *fakeSource) Get(c cid.Cid) (api.Pin, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pin, ok := s.pins[c.KeyString()]
	return pin, ok, nil
}

func (s *fakeSource) GetMany(cids []cid.Cid, pins []api.Pin) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range cids {
		pins[i] = s.pins[c.KeyString()]
	}
	return nil
}

func (s *fakeSource) Pins(filter api.PinFilter) iter.Seq2[api.Pin, error] {
	s.mu.Lock()
	var pins []api.Pin
	for _, pin := range s.pins {
		if filter.Peer == "" || pin.AllocatedTo(filter.Peer) {
			pins = append(pins, pin)
		}
	}
	s.mu.Unlock()
	slices.SortFunc(pins, func(a, b api.Pin) int { return bytes.Compare(a.Cid.Bytes(), b.Cid.Bytes()) })
	return func(yield func(api.Pin, error) bool) {
		for _, pin := range pins {
			if !yield(pin, nil) {
				return
			}
		}
	}
}

func (s *fakeSource) Changes(since uint64) ([]api.Change, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if since < s.dropped {
		return nil, false
	}
	i, _ := slices.BinarySearchFunc(s.feed, since+1, func(c api.Change, n uint64) int { return int(c.Index) - int(n) })
	return slices.Clone(s.feed[i:]), true
}

func (s *fakeSource) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *fakeSource) Applied() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index
}

// pin stores a pin held by the given peers.
func (s *fakeSource) pin(c cid.Cid, mode api.PinMode, name string, peers ...peer.ID) {
	s.set(api.Pin{PinOptions: api.PinOptions{Mode: mode, Name: name}, Cid: api.NewCid(c), Type: api.TypeData,
		Allocations: peers, Timestamp: time.Now().Add(-s.age).Truncate(time.Second)})
}

func (s *fakeSource) set(pins ...api.Pin) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pin := range pins {
		s.log(pin.Cid)
		pin.Revision = s.index
		s.pins[pin.Cid.KeyString()] = pin
	}
	s.tell()
}

func (s *fakeSource) unpin(c cid.Cid) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pins, c.KeyString())
	s.log(api.NewCid(c))
	s.tell()
}

func (s *fakeSource) log(c api.Cid) {
	s.index++
	s.feed = append(s.feed, api.Change{Index: s.index, Cid: c})
	if len(s.feed) > s.keep {
		s.dropped = s.feed[0].Index
		s.feed = s.feed[1:]
	}
}

func (s *fakeSource) tell() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// fakeNode keeps pins; it survives crashes of the tracker, as a node does
// whose pins are durable when Pin returns.
type fakeNode struct {
	mu         sync.Mutex
	pins       map[string]api.PinMode
	fetched    map[string]int // how often
	calls      int            // of Pin
	fetch      func(ctx context.Context, pin api.Pin, progress func(blocks, bytes uint64)) error
	pinErr     func(api.Pin) error
	unpinErr   func(cid.Cid) error
	pinTakes   time.Duration
	repoID     string
	missing    func(api.Pin) cid.Cid // the first block that is not there; nil: none
	checked    map[string]int        // how often
	checkErr   error
	damaged    []cid.Cid
	damage     chan struct{}
	blockBytes uint64 // of each block; set before the start
}

func newNode() *fakeNode {
	return &fakeNode{pins: map[string]api.PinMode{}, fetched: map[string]int{}, repoID: "first",
		checked: map[string]int{}, damage: make(chan struct{}, 1)}
}

func (n *fakeNode) RepoID(context.Context) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.repoID, nil
}

func (n *fakeNode) Kept(_ context.Context, cids []cid.Cid) ([]bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept := make([]bool, len(cids))
	for i, c := range cids {
		_, kept[i] = n.pins[c.KeyString()]
	}
	return kept, nil
}

func (n *fakeNode) Check(ctx context.Context, pin api.Pin, pace func(context.Context, int, uint64) error) (cid.Cid, error) {
	if pace != nil {
		if err := pace(ctx, 1, n.blockBytes); err != nil {
			return cid.Undef, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.checked[pin.Cid.KeyString()]++
	if n.missing == nil || n.checkErr != nil {
		return cid.Undef, n.checkErr
	}
	return n.missing(pin), nil
}

func (n *fakeNode) Damaged() []cid.Cid {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.damaged)
}

func (n *fakeNode) DamageFound() <-chan struct{} { return n.damage }

func (n *fakeNode) checks(c cid.Cid) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.checked[c.KeyString()]
}

func (n *fakeNode) Fetch(ctx context.Context, pin api.Pin, _ []peer.AddrInfo, progress func(blocks, bytes uint64)) error {
	n.mu.Lock()
	n.fetched[pin.Cid.KeyString()]++
	fetch := n.fetch
	n.mu.Unlock()
	if fetch == nil {
		return nil
	}
	return fetch(ctx, pin, progress)
}

func (n *fakeNode) Pin(ctx context.Context, pins []api.Pin) error {
	if err := pause(ctx, n.takes()); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.calls++
	for _, pin := range pins {
		if n.pinErr != nil {
			if err := n.pinErr(pin); err != nil {
				return err
			}
		}
		n.pins[pin.Cid.KeyString()] = pin.Mode
	}
	return nil
}

func (n *fakeNode) Unpin(ctx context.Context, cids []cid.Cid) error {
	if err := pause(ctx, n.takes()); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range cids {
		if n.unpinErr != nil {
			if err := n.unpinErr(c); err != nil {
				return err
			}
		}
		delete(n.pins, c.KeyString())
	}
	return nil
}

// takes is how long the node needs to pin and to unpin.
func (n *fakeNode) takes() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pinTakes
}

func (n *fakeNode) has(c cid.Cid) api.PinMode {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pins[c.KeyString()]
}

func (n *fakeNode) fetches(c cid.Cid) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fetched[c.KeyString()]
}

// pause waits in fake time.
func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rig is a tracker under test.
type rig struct {
	t      testing.TB
	source *fakeSource
	node   *fakeNode
	fs     vfs.FS
	dir    string
	cfg    Config
	events Events
	// released answers for pins that moved away; nil: they may go.
	released Released
	wall     func() time.Time

	tracker *Tracker
	cancel  context.CancelFunc
	done    chan error
}

func newRig(t testing.TB) *rig {
	return &rig{t: t, source: newSource(1000), node: newNode(), fs: vfs.NewCrashableMem(), dir: "status",
		cfg: Config{Self: self, Rand: rand.New(rand.NewPCG(1, 1))}}
}

func (r *rig) start() {
	r.t.Helper()
	tracker, err := New(r.cfg, Deps{Source: r.source, Node: r.node, FS: r.fs, Dir: r.dir, Events: r.events, Released: r.released, Wall: r.wall})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.tracker, r.cancel, r.done = tracker, cancel, make(chan error, 1)
	go func() { r.done <- tracker.Run(ctx) }()
}

func (r *rig) stop() {
	r.t.Helper()
	r.cancel()
	if err := errors.Join(<-r.done, r.tracker.Close()); err != nil {
		r.t.Fatal(err)
	}
}

// settle waits until what can be done at once is done.
func settle() {
	time.Sleep(100 * time.Millisecond)
	synctest.Wait()
}

func (r *rig) status(c cid.Cid) api.PinInfoShort {
	r.t.Helper()
	info, _, err := r.tracker.Status(c)
	if err != nil {
		r.t.Fatal(err)
	}
	return info
}

func (r *rig) want(c cid.Cid, status api.TrackerStatus) api.PinInfoShort {
	r.t.Helper()
	info := r.status(c)
	if info.Status != status {
		r.t.Fatalf("status of %s is %v (%+v), want %v", c, info.Status, info, status)
	}
	return info
}

func (r *rig) all(query api.StatusQuery) []api.PinInfo {
	r.t.Helper()
	var out []api.PinInfo
	for info, err := range r.tracker.StatusAll(query) {
		if err != nil {
			r.t.Fatal(err)
		}
		out = append(out, info)
	}
	return out
}
