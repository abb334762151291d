package state_test

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"holdfast/api"
	"holdfast/state"
)

// entry is one log entry.
type entry struct {
	index    uint64
	commands []command
}

func (e entry) encode() [][]byte {
	var out [][]byte
	for _, c := range e.commands {
		out = append(out, c.Encode())
	}
	return out
}

// drawEntry makes an entry of few CIDs, peers, tokens and request ids, so that
// they meet.
func drawEntry(t *rapid.T, m *model, index uint64) entry {
	e := entry{index: index}
	for range rapid.IntRange(0, 6).Draw(t, "commands") {
		e.commands = append(e.commands, drawCommand(t, m))
	}
	return e
}

func drawCommand(t *rapid.T, m *model) command {
	small := func(label string, n int) int { return rapid.IntRange(0, n).Draw(t, label) }
	at := epoch.Add(time.Duration(small("at", 3000)) * time.Millisecond)
	request := ""
	if n := small("request", 30); n < 15 {
		request = fmt.Sprint("request ", n)
	}
	c := testCid(small("cid", 9))
	expect := m.pins[api.NewCid(c)].Revision
	if small("stale", 5) == 0 {
		expect = uint64(small("expect", 20))
	}
	member := testMember(small("peer", 4))
	hash := sha256.Sum256([]byte{byte(small("token", 3))})
	switch small("kind", 20) {
	case 0:
		return state.PutMemberCommand{Member: api.Member{ID: member.ID, Name: "moved"}}
	case 1:
		return state.RemoveMemberCommand{ID: member.ID}
	case 2:
		return state.CreateTokenCommand{Hash: hash, ExpiresAt: whole(at).Add(time.Second)}
	case 3:
		return state.JoinCommand{Hash: hash, At: whole(at), Member: member}
	case 4:
		return state.InitClusterCommand{ClusterID: "cluster", Member: member}
	case 5:
		return state.SetRoleCommand{ID: member.ID, Role: []api.Role{"", api.RoleVoter, api.RoleLearner}[small("role", 2)]}
	case 6, 7, 8, 9:
		return state.UnpinCommand{Cid: c, Expect: expect, RequestID: request, At: at}
	}
	pin := testPin(0)
	pin.Cid = api.NewCid(c)
	for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, 4), 0, 3, rapid.ID[int]).Draw(t, "allocations") {
		pin.Allocations = append(pin.Allocations, testPeer(n))
	}
	if small("everywhere", 4) == 0 {
		pin.ReplicationFactorMin, pin.ReplicationFactorMax = -1, -1
	}
	if small("expires", 2) == 0 {
		pin.ExpireAt = at.Add(time.Duration(small("life", 5)) * time.Second)
	}
	if small("shard", 5) == 0 {
		pin.Type = api.TypeShard
	}
	pin.Name = modelNames[small("name", len(modelNames)-1)]
	pin.ReplicationFactorMax = max(pin.ReplicationFactorMin, small("maximum", 4))
	for range small("metadata", 2) {
		if pin.Metadata == nil {
			pin.Metadata = map[string]string{}
		}
		pin.Metadata[modelTexts[small("key", len(modelTexts)-1)]] = modelTexts[small("value", len(modelTexts)-1)]
	}
	if small("old", 3) == 0 {
		pin.Timestamp = epoch.Add(time.Duration(small("age", 6)-3) * 500 * time.Millisecond)
	}
	return state.PinCommand{Pin: pin, Expect: expect, RequestID: request, At: at}
}

// testingT is what rapid.T and testing.T share.
type testingT interface {
	Helper()
	Fatalf(format string, args ...any)
}

// applyEntry applies an entry and checks the results against the model's.
func applyEntry(t testingT, p *state.Pinset, m *model, e entry) {
	t.Helper()
	got, err := p.Apply(e.index, e.encode())
	if err != nil || len(got) != len(e.commands) {
		t.Fatalf("entry %d: %d results, %v", e.index, len(got), err)
	}
	for i, c := range e.commands {
		want, have := m.apply(e.index, c), answerOf(t, got[i])
		if code(want.Err) != code(have.Err) || want.Index != have.Index || want.Repeat != have.Repeat || pinText(want.Pin) != pinText(have.Pin) {
			t.Fatalf("entry %d, command %d %+v:\n got %+v\nwant %+v", e.index, i, c, have, want)
		}
	}
}

// compare checks everything that can be read.
func compare(t testingT, p *state.Pinset, m *model) {
	t.Helper()
	order := slices.SortedFunc(maps.Values(m.pins), func(a, b api.Pin) int { return slices.Compare(a.Cid.Bytes(), b.Cid.Bytes()) })
	stats := state.Stats{Applied: p.Applied(), Types: map[api.PinType]uint64{}, Peers: map[peer.ID]uint64{}}
	for _, pin := range order {
		stats.Pins++
		stats.Types[pin.Type]++
		if pin.IsEverywhere() {
			stats.Everywhere++
		}
		for _, id := range pin.Allocations {
			stats.Peers[id]++
		}
	}
	if got := p.Stats(); fmt.Sprint(got) != fmt.Sprint(stats) {
		t.Fatalf("stats %+v, want %+v", got, stats)
	}
	compareListings(t, p, order)
	changes, ok := p.Changes(0)
	if !ok || !slices.Equal(changes, m.changes) {
		t.Fatalf("changes %v, %v, want %v", changes, ok, m.changes)
	}
	members, err := p.Members()
	want := slices.SortedFunc(maps.Values(m.members), func(a, b api.Member) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) })
	if err != nil || fmt.Sprint(members) != fmt.Sprint(want) || p.ClusterID() != m.cluster {
		t.Fatalf("cluster %q with %+v, %v; want %q with %+v", p.ClusterID(), members, err, m.cluster, want)
	}
}

func compareListings(t testingT, p *state.Pinset, order []api.Pin) {
	t.Helper()
	filters := []api.PinFilter{{}, {Types: []api.PinType{api.TypeShard}}, {Types: []api.PinType{api.TypeMeta}}}
	for n := range 6 {
		filters = append(filters, api.PinFilter{Peer: testPeer(n)})
	}
	p.SetNarrow(int(p.Applied()) % 8)
	for i, filter := range append(filters, modelFilters()...) {
		if i%7 == int(p.Applied())%7 {
			compareFilter(t, p, order, filter)
		}
	}
	compareWanting(t, p, order)
	checkClean(t, p)
	for _, now := range []time.Time{epoch.Add(4 * time.Second), epoch.Add(time.Hour)} {
		expired, err := p.Expired(now, 100)
		want := slices.DeleteFunc(slices.Clone(order), func(pin api.Pin) bool { return !pin.Expired(now) })
		slices.SortStableFunc(want, func(a, b api.Pin) int { return a.ExpireAt.Compare(b.ExpireAt) })
		if err != nil || fmt.Sprint(expired) != fmt.Sprint(want) {
			t.Fatalf("expired %v, %v, want %v", expired, err, want)
		}
	}
	for n := range 10 {
		i := slices.IndexFunc(order, func(pin api.Pin) bool { return pin.Cid.Equals(testCid(n)) })
		pin, found, err := p.Get(testCid(n))
		if err != nil || found != (i >= 0) || found && pinText(pin) != pinText(order[i]) {
			t.Fatalf("get %d: %+v, %v, %v", n, pin, found, err)
		}
	}
}

// modelAt replays the log up to an index.
func modelAt(log []entry, index uint64) *model {
	m := newModel()
	for _, e := range log {
		if e.index <= index {
			for _, c := range e.commands {
				m.apply(e.index, c)
			}
		}
	}
	return m
}

// world is a pinset on a disk that can lose what was not synced, with the log
// that it was made of.
type world struct {
	fs      *vfs.MemFS
	p       *state.Pinset
	m       *model
	log     []entry
	saved   []uint64 // applied index of each checkpoint
	durable uint64   // no crash may go back behind this
	rng     *rand.Rand
}

func (w *world) open(t testingT) {
	t.Helper()
	p, err := state.Open(w.fs, "data/pinset")
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	w.p = p
}

func (w *world) close(t testingT) {
	t.Helper()
	if err := w.p.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// replay applies what the pinset does not have yet, after checking that it is
// at an earlier moment of the same history.
func (w *world) replay(t testingT) {
	t.Helper()
	m := modelAt(w.log, w.p.Applied())
	compare(t, w.p, m)
	for _, e := range w.log {
		if e.index > w.p.Applied() {
			applyEntry(t, w.p, m, e)
		}
	}
	compare(t, w.p, w.m)
}

// TestModel runs random operations, restarts, crashes, checkpoints and
// restores. (rapid prints the seed of a failure and takes it with -rapid.seed.)
func TestModel(t *testing.T) {
	if raced && flag.Lookup("rapid.checks").Value.String() == "100" { // rapid's default
		if err := flag.Set("rapid.checks", "10"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		w := &world{fs: vfs.NewCrashableMem(), m: newModel()}
		w.rng = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "crash seed"), 0))
		w.open(t)
		index := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				index += rapid.Uint64Range(1, 3).Draw(t, "step")
				e := drawEntry(t, w.m, index)
				w.log = append(w.log, e)
				applyEntry(t, w.p, w.m, e)
			},
			"check": func(t *rapid.T) { compare(t, w.p, w.m) },
			"reopen": func(t *rapid.T) {
				before := w.p.Applied()
				w.close(t)
				w.open(t)
				if w.p.Applied() != before {
					t.Fatalf("applied %d, before closing %d", w.p.Applied(), before)
				}
				compare(t, w.p, w.m)
			},
			"survey": func(t *rapid.T) {
				if err := w.p.SurveyNow(context.Background()); err != nil || !w.p.Surveyed() {
					t.Fatalf("survey: %v, surveyed %v", err, w.p.Surveyed())
				}
			},
			"checkpoint": func(t *rapid.T) {
				if err := w.p.Checkpoint(fmt.Sprintf("data/snapshots/%d", len(w.saved))); err != nil {
					t.Fatalf("checkpoint: %v", err)
				}
				w.saved = append(w.saved, w.p.Applied())
				w.durable = w.p.Applied()
			},
			"restore": func(t *rapid.T) {
				if len(w.saved) == 0 {
					t.Skip()
				}
				n := rapid.IntRange(0, len(w.saved)-1).Draw(t, "checkpoint")
				if err := w.p.Restore(fmt.Sprintf("data/snapshots/%d", n)); err != nil {
					t.Fatalf("restore: %v", err)
				}
				if w.p.Applied() != w.saved[n] {
					t.Fatalf("applied %d after restoring %d", w.p.Applied(), w.saved[n])
				}
				w.durable = w.saved[n]
				w.replay(t)
			},
			"crash": func(t *rapid.T) {
				percent := rapid.SampledFrom([]int{0, 0, 30, 100}).Draw(t, "unsynced data that survives")
				after := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: w.rng})
				w.close(t)
				w.fs = after
				w.open(t)
				if w.p.Applied() < w.durable || w.p.Applied() > index {
					t.Fatalf("applied %d after a crash, %d was on disk, %d in memory", w.p.Applied(), w.durable, index)
				}
				w.replay(t)
			},
		})
		same := open2(t, w.log)
		a, _, err := w.p.Hash()
		b, _, err2 := same.Hash()
		if err != nil || err2 != nil || a != b {
			t.Fatalf("hashes %s, %s, %v, %v", a, b, err, err2)
		}
		w.close(t)
		if err := same.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	})
}

// open2 is a second peer that applies the whole log at once.
func open2(t testingT, log []entry) *state.Pinset {
	p, err := state.Open(vfs.NewMem(), "other")
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	for _, e := range log {
		if _, err := p.Apply(e.index, e.encode()); err != nil {
			t.Fatalf("apply: %v", err)
		}
	}
	return p
}
