package pintracker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// mortal is the node as one process sees it: when that process is dead, its
// calls have no effect any more.
type mortal struct {
	*fakeNode
	dead atomic.Bool
}

var errDead = errors.New("the process is dead")

func (m *mortal) Pin(ctx context.Context, pins []api.Pin) error {
	if err := pause(ctx, m.takes()); err != nil {
		return err
	}
	if m.dead.Load() {
		return errDead
	}
	return m.fakeNode.Pin(ctx, pins)
}

func (m *mortal) Unpin(ctx context.Context, cids []cid.Cid) error {
	if err := pause(ctx, m.takes()); err != nil {
		return err
	}
	if m.dead.Load() {
		return errDead
	}
	return m.fakeNode.Unpin(ctx, cids)
}

// event is one entry of the log that a source can fall back in and replay.
type event struct {
	cid cid.Cid
	pin *api.Pin
}

// world drives a tracker at random. What it must come to is simple: the node
// has what the source asks for, and says so.
type world struct {
	*rig
	rng    *rand.Rand
	luck   *rand.Rand // of fetches; under node.mu
	cids   []cid.Cid
	log    []event
	mortal *mortal
	local  map[string]api.PinMode // what is complete in the node's store; under node.mu
	bad    map[string]string      // what fails: "fetch", "pin", "unpin", "silent"; under node.mu
	behind atomic.Bool            // the source has not caught up
	taken  map[string]bool        // what the disk has taken of what was pinned; under node.mu
	lives  int                    // repositories that there were
	lost   bool                   // the last of them, and no process has begun since
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{rig: newRig(t), rng: rand.New(rand.NewPCG(seed, 0)), luck: rand.New(rand.NewPCG(seed, 1)),
		local: map[string]api.PinMode{}, bad: map[string]string{}, taken: map[string]bool{}}
	w.cfg.WalkEvery = 20 * time.Minute
	w.cfg.Workers = 1 + w.rng.IntN(6)
	w.cfg.RetryMax, w.cfg.DeadAfter, w.cfg.DeadDelay = 10*time.Minute, 5, 20*time.Minute
	w.source.keep = 20
	for i := range 10 {
		w.cids = append(w.cids, nthCid(i))
	}
	w.node.fetch = w.fetch
	w.node.pinErr = func(pin api.Pin) error {
		key := pin.Cid.KeyString()
		if w.bad[key] == "pin" {
			return api.Errorf(api.CodeInternal, "pinner is unhappy")
		}
		if !w.whole(pin) && !w.taken[key] {
			mode := w.local[key]
			t.Errorf("%s is pinned %s without its blocks (%q)", pin.Cid, pin.Mode, mode)
		}
		if w.behind.Load() {
			t.Error("the tracker pins though the source is behind")
		}
		if w.whole(pin) {
			delete(w.taken, key)
		}
		return nil
	}
	w.node.missing = func(pin api.Pin) cid.Cid {
		if w.whole(pin) {
			return cid.Undef
		}
		return pin.Cid.Cid
	}
	w.node.unpinErr = func(c cid.Cid) error {
		if w.bad[c.KeyString()] == "unpin" {
			return api.Errorf(api.CodeInternal, "pinner is unhappy")
		}
		if w.behind.Load() {
			t.Error("the tracker unpins though the source is behind")
		}
		delete(w.local, c.KeyString())
		w.mend(c.KeyString())
		return nil
	}
	return w
}

// whole says whether the node has the blocks of a pin. Under node.mu.
func (w *world) whole(pin api.Pin) bool {
	mode := w.local[pin.Cid.KeyString()]
	return mode == api.ModeRecursive || mode != "" && mode == pin.Mode
}

// mend makes a CID's blocks no longer count as damaged. Under node.mu.
func (w *world) mend(key string) {
	w.node.damaged = slices.DeleteFunc(w.node.damaged, func(c cid.Cid) bool { return c.KeyString() == key })
}

// take makes the disk lose something of what is pinned: blocks, with or without
// anybody noticing, or the node's own pin.
func (w *world) take(c cid.Cid) {
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	key := c.KeyString()
	if w.node.pins[key] == "" {
		return
	}
	w.taken[key] = true
	switch w.rng.IntN(3) {
	case 0:
		delete(w.node.pins, key)
	case 1:
		delete(w.local, key)
	default:
		delete(w.local, key)
		w.mend(key)
		w.node.damaged = append(w.node.damaged, c)
		wake(w.node.damage)
	}
}

// loseRepository exchanges the node's repository for an empty one. No process
// runs meanwhile.
func (w *world) loseRepository() {
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	w.lives++
	w.lost = true
	w.node.repoID = fmt.Sprintf("life %d", w.lives)
	clear(w.node.pins)
	clear(w.local)
	w.node.damaged = nil
}

func (w *world) fetch(ctx context.Context, pin api.Pin, progress func(blocks, bytes uint64)) error {
	key := pin.Cid.KeyString()
	w.node.mu.Lock()
	bad, takes, stubborn := w.bad[key], time.Duration(w.luck.IntN(12)-4)*time.Second, w.luck.IntN(5) == 0
	w.node.mu.Unlock()
	switch bad {
	case "silent":
		<-ctx.Done()
		return ctx.Err()
	case "fetch":
		return api.Errorf(api.CodeUnavailable, "nobody has it")
	}
	for i := range max(0, int(takes/time.Second)) {
		progress(uint64(i), uint64(i)*1000)
		if stubborn { // comes through though it was called off
			time.Sleep(time.Second)
		} else if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	if w.local[key] != api.ModeRecursive {
		w.local[key] = pin.Mode
	}
	w.mend(key)
	return nil
}

func (w *world) start() {
	w.t.Helper()
	w.mortal = &mortal{fakeNode: w.node}
	tracker, err := New(w.cfg, Deps{Source: w.source, Node: w.mortal, FS: w.fs, Dir: w.dir})
	if err != nil {
		w.t.Fatal(err)
	}
	w.tracker = tracker
	if !w.lost {
		w.checkStore()
	}
	w.behind.Store(w.source.Applied() < tracker.store.index)
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel, w.done = cancel, make(chan error, 1)
	go func() { w.done <- tracker.Run(ctx) }()
	if w.lost { // from when it speaks of pins, it says nothing of the old repository
		<-tracker.Recognized()
		w.checkStore()
		w.lost = false
	}
}

// crash ends the process; the disk keeps some of what was not synced.
func (w *world) crash() {
	w.mortal.dead.Store(true)
	fs := w.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.rng.IntN(101), RNG: w.rng})
	w.stop()
	w.fs = fs
	if w.rng.IntN(4) == 0 {
		w.loseRepository()
	}
	if back := w.rng.IntN(8); back > 0 && back < 4 && len(w.log) > back {
		// The source lost its last entries, too, and replays them after a while.
		w.rewind(len(w.log) - back)
		w.start()
		time.Sleep(time.Duration(w.rng.IntN(20)) * time.Second)
		w.behind.Store(false)
		w.rewind(len(w.log))
		return
	}
	w.start()
}

// rewind makes the source what it was after n entries.
func (w *world) rewind(n int) {
	s := w.source
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.pins)
	for i, e := range w.log[:n] {
		delete(s.pins, e.cid.KeyString())
		if e.pin != nil {
			pin := *e.pin
			pin.Revision = uint64(i + 1)
			s.pins[e.cid.KeyString()] = pin
		}
	}
	s.index, s.dropped, s.feed = uint64(n), uint64(n), nil
	s.tell()
}

// act does one random thing.
func (w *world) act() {
	c := w.cids[w.rng.IntN(len(w.cids))]
	switch n := w.rng.IntN(100); {
	case n < 30:
		mode := api.ModeRecursive
		if w.rng.IntN(4) == 0 {
			mode = api.ModeDirect
		}
		w.pinSome(c, mode, self, other)
	case n < 38:
		w.pinSome(c, api.ModeRecursive, other)
	case n < 60:
		w.log = append(w.log, event{cid: c})
		w.source.unpin(c)
	case n < 70:
		w.node.mu.Lock()
		w.bad[c.KeyString()] = []string{"fetch", "pin", "unpin", "silent"}[w.rng.IntN(4)]
		w.node.mu.Unlock()
	case n < 76:
		w.node.mu.Lock()
		clear(w.bad)
		w.node.pinTakes = time.Duration(w.rng.IntN(3)) * time.Second
		w.node.mu.Unlock()
	case n < 80:
		if _, err := w.tracker.Recover(c); err != nil {
			w.t.Fatal(err)
		}
	case n < 81:
		for _, err := range w.tracker.RecoverAll() {
			if err != nil {
				w.t.Fatal(err)
			}
		}
	case n < 85:
		w.crash()
	case n < 87:
		w.stop()
		if w.rng.IntN(4) == 0 {
			w.loseRepository()
		}
		w.start()
	case n < 90:
		w.take(c)
	case n < 97:
		time.Sleep(time.Duration(w.rng.IntN(5000)) * time.Millisecond)
	default:
		time.Sleep(time.Duration(w.rng.IntN(30)) * time.Minute)
		synctest.Wait()
		w.checkStore()
	}
}

func (w *world) pinSome(c cid.Cid, mode api.PinMode, peers ...peer.ID) {
	pin := api.Pin{PinOptions: api.PinOptions{Mode: mode, Name: strconv.Itoa(w.rng.IntN(100))}, Cid: api.NewCid(c),
		Type: api.TypeData, Allocations: peers, Timestamp: time.Now().Add(-time.Duration(w.rng.IntN(30)) * time.Hour).Truncate(time.Second)}
	w.log = append(w.log, event{cid: c, pin: &pin})
	w.source.set(pin)
}

// checkStore checks what must hold at any time: what is recorded as pinned is
// pinned, and counters and indexes agree with the records.
func (w *world) checkStore() {
	w.t.Helper()
	w.tracker.mu.Lock()
	defer w.tracker.mu.Unlock()
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	records, places := map[string]record{}, map[string]string{}
	statuses := map[string]byte{}
	s := w.tracker.store
	it, err := s.db.NewIter(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for ok := it.First(); ok; ok = it.Next() {
		switch key := it.Key(); key[0] {
		case prefixRecord:
			rec, err := decodeRecord(it.Value())
			if err != nil {
				w.t.Fatal(err)
			}
			records[string(key[1:])] = rec
		case prefixStatus:
			statuses[string(key[2:])] = key[1]
		case prefixQueue:
			places[string(key[10:])] = string(key[1:10])
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		w.t.Fatal(err)
	}
	for key := range records {
		if !s.present.May(key) {
			w.t.Errorf("a record of %x is said not to be", key)
		}
	}
	var counts [statusBits]uint64
	var counted [kinds]uint64
	for key, rec := range records {
		bit := byte(bits.TrailingZeros32(uint32(rec.status)))
		counts[bit]++
		if statuses[key] != bit {
			w.t.Errorf("index by status says %d of a record with %d", statuses[key], bit)
		}
		if rec.class != classNone {
			if want := string(binary.BigEndian.AppendUint64([]byte{byte(rec.class)}, uint64(rec.due))); places[key] != want {
				w.t.Errorf("a record waits at %x, its queue says %x", want, places[key])
			}
			delete(places, key)
		}
		for i, is := range rec.isOf() {
			if is {
				counted[i]++
			}
		}
		if rec.status == api.StatusPinned && w.node.pins[key] != rec.mode && !w.taken[key] {
			w.t.Errorf("recorded as pinned %s, the node has %q", rec.mode, w.node.pins[key])
		}
		delete(statuses, key)
	}
	if len(statuses)+len(places) != 0 {
		w.t.Errorf("indexes speak of what is not there: %v %v", statuses, places)
	}
	if counts != s.counts || counted != s.kinds {
		w.t.Errorf("counters are %v %v, the records %v %v", s.counts, s.kinds, counts, counted)
	}
}

// checkEnd checks that all converged.
func (w *world) checkEnd() {
	w.node.mu.Lock()
	clear(w.bad)
	w.node.mu.Unlock()
	time.Sleep(2 * time.Hour)
	synctest.Wait()
	for range 4 { // of which nobody tells
		w.take(w.cids[w.rng.IntN(len(w.cids))])
	}
	time.Sleep(2 * time.Hour)
	synctest.Wait()
	w.checkStore()
	if !w.tracker.store.present.Whole() {
		w.t.Error("which records there are is not known")
	}
	want, said := map[string]api.PinMode{}, map[string]api.PinMode{}
	for pin := range w.source.Pins(api.PinFilter{Peer: self}) {
		want[pin.Cid.KeyString()] = pin.Mode
	}
	for _, info := range w.all(api.StatusQuery{Filter: api.StatusPinned}) {
		said[info.Cid.KeyString()] = want[info.Cid.KeyString()]
		if pin, _, _ := w.source.Get(info.Cid.Cid); info.Name != pin.Name {
			w.t.Errorf("name is %q, want %q", info.Name, pin.Name)
		}
	}
	if told := w.tracker.Conditions(); len(told) > 0 {
		w.t.Errorf("all is well, and it says %+v", told)
	}
	w.node.mu.Lock()
	defer w.node.mu.Unlock()
	for key, mode := range want { // INV-PINNED
		if w.local[key] != api.ModeRecursive && w.local[key] != mode {
			w.t.Errorf("%x is called pinned %s, and its blocks are not there", key, mode)
		}
	}
	if !maps.Equal(w.node.pins, want) || !maps.Equal(said, want) {
		w.t.Errorf("wanted %d pins, the node has %d, the tracker says %d", len(want), len(w.node.pins), len(said))
	}
	if counts := w.tracker.Counts(); len(counts) > 1 || counts[api.StatusPinned] != uint64(len(want)) || w.tracker.Queued() != 0 {
		w.t.Errorf("counts are %v, want %d pinned", counts, len(want))
	}
}

// TestConverges is the property: whatever happens, all converges in the end.
// PINTRACKER_SEED repeats one run; PINTRACKER_RUNS asks for more of them.
func TestConverges(t *testing.T) {
	first, runs := uint64(1), uint64(40)
	if raced {
		runs = 10
	}
	if n, err := strconv.ParseUint(os.Getenv("PINTRACKER_RUNS"), 10, 64); err == nil {
		runs = n
	}
	if n, err := strconv.ParseUint(os.Getenv("PINTRACKER_SEED"), 10, 64); err == nil {
		first, runs = n, 1
	}
	for seed := first; seed < first+runs; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, seed)
				w.start()
				for range 300 {
					w.act()
				}
				w.checkEnd()
				w.stop()
			})
		})
	}
}
