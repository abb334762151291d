package state_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
	"holdfast/state"
)

var (
	long = strings.Repeat("long name ", 6) // longer than what its key holds

	// modelNames and modelTexts are such that careless keys would mix them up.
	modelNames = []string{"", "a", "ab", "a\x00", "a\x00\x01", "a\x01", "a\x01\x03", "\x00", "\xff", "\xff\xff",
		long, long + "1", long + "12", long[:48], long[:49]}
	modelTexts = []string{"", "=", "a=", "=a", "a", "a\x00", "\x00a", "\xff", "\x01\x61", strings.Repeat("b", 200)}
)

// modelFilters have conditions of every kind, alone and together.
func modelFilters() []api.PinFilter {
	var out []api.PinFilter
	for _, name := range modelNames {
		out = append(out, api.PinFilter{Name: name}, api.PinFilter{NamePrefix: name})
	}
	for _, key := range modelTexts[1:4] {
		for _, value := range modelTexts {
			out = append(out, api.PinFilter{Meta: map[string]string{key: value}})
		}
	}
	for _, at := range []time.Time{epoch.Add(-time.Second), epoch, epoch.Add(500 * time.Millisecond), epoch.Add(2 * time.Second)} {
		out = append(out, api.PinFilter{CreatedAfter: at}, api.PinFilter{CreatedBefore: at},
			api.PinFilter{CreatedAfter: at, CreatedBefore: at.Add(time.Second)},
			api.PinFilter{CreatedAfter: at, CreatedBefore: at.Add(-time.Second)})
	}
	return append(out,
		api.PinFilter{Name: "a", Peer: testPeer(1)},
		api.PinFilter{Name: "a", NamePrefix: "b"},
		api.PinFilter{NamePrefix: "a", CreatedAfter: epoch, Peer: testPeer(2)},
		api.PinFilter{NamePrefix: "a", Types: []api.PinType{api.TypeShard}},
		api.PinFilter{Meta: map[string]string{"a": "a", "=": "="}},
		api.PinFilter{Meta: map[string]string{"a": "a"}, Peer: testPeer(1), Types: []api.PinType{api.TypeData, api.TypeAll}},
	)
}

// compareFilter checks a listing, whole and in pages of two, and its count
// against the pins in their order.
func compareFilter(t testingT, p *state.Pinset, order []api.Pin, filter api.PinFilter) {
	t.Helper()
	var want, got, paged []string
	for _, pin := range order {
		if filter.Selects(pin) {
			want = append(want, pinText(pin))
		}
	}
	read := func(filter api.PinFilter) (out []api.Pin) {
		for pin, err := range p.Pins(filter) {
			if err != nil {
				t.Fatalf("list %+v: %v", filter, err)
			}
			out = append(out, pin)
		}
		return out
	}
	for _, pin := range read(filter) {
		got = append(got, pinText(pin))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("list %+v:\n got %v\nwant %v", filter, got, want)
	}
	filter.Limit = 2
	for page := read(filter); len(page) > 0; page = read(filter) {
		for _, pin := range page {
			paged = append(paged, pinText(pin))
		}
		filter.After = page[len(page)-1].Cid
	}
	if !slices.Equal(paged, want) {
		t.Fatalf("pages of %+v:\n got %v\nwant %v", filter, paged, want)
	}
	compareNewest(t, p, order, filter)
	if count, err := p.Count(noContext(), filter); err != nil || count != uint64(len(want)) {
		t.Fatalf("count %+v: %d, %v, want %d", filter, count, err, len(want))
	}
}

// compareNewest checks the list from the latest on, whole and its beginning.
func compareNewest(t testingT, p *state.Pinset, order []api.Pin, filter api.PinFilter) {
	t.Helper()
	var want []api.Pin
	for _, pin := range order {
		if filter.Selects(pin) {
			want = append(want, pin)
		}
	}
	slices.Reverse(want)
	slices.SortStableFunc(want, func(a, b api.Pin) int { return b.Timestamp.Compare(a.Timestamp) })
	for _, limit := range []int{0, 2} {
		filter.Limit = limit
		var got []api.Pin
		for pin, err := range p.Newest(noContext(), filter) {
			if err != nil {
				t.Fatalf("newest %+v: %v", filter, err)
			}
			got = append(got, pin)
		}
		if limit > 0 {
			want = want[:min(limit, len(want))]
		}
		if !slices.EqualFunc(got, want, func(a, b api.Pin) bool { return pinText(a) == pinText(b) }) {
			t.Fatalf("newest %+v: got %v, want %v", filter, got, want)
		}
	}
}

// compareWanting checks the list of pins that could have more replicas.
func compareWanting(t testingT, p *state.Pinset, order []api.Pin) {
	t.Helper()
	for peers := range 5 {
		var want, got []string
		for _, pin := range order {
			if !pin.IsEverywhere() && len(pin.Allocations) < min(pin.ReplicationFactorMax, peers) {
				want = append(want, pinText(pin))
			}
		}
		for pin, err := range p.WantingReplicas(peers) {
			if err != nil {
				t.Fatalf("wanting replicas: %v", err)
			}
			got = append(got, pinText(pin))
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Fatalf("wanting replicas with %d peers:\n got %v\nwant %v", peers, got, want)
		}
	}
}

// checkClean expects nothing to be wrong.
func checkClean(t testingT, p *state.Pinset) {
	t.Helper()
	checked, err := p.Check(noContext(), func(problem string) { t.Fatalf("check: %s", problem) })
	if err != nil || checked != p.Stats().Pins {
		t.Fatalf("check: %d of %d pins, %v", checked, p.Stats().Pins, err)
	}
}

// TestManyPins selects of so many pins that ranges are too large to be sorted
// in memory.
func TestManyPins(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	p.SetNarrow(100)
	const entries, size = 5, 1000
	rng := rand.New(rand.NewPCG(1, 2))
	var order []api.Pin
	for entry := range entries {
		var commands [][]byte
		for n := range size {
			pin := testPin(entry*size+n, testPeer(rng.IntN(3)))
			pin.Name = fmt.Sprintf("%x", rng.IntN(1<<20))
			pin.Timestamp = epoch.Add(time.Duration(rng.IntN(1000)) * time.Second)
			if rng.IntN(2) == 0 {
				pin.Metadata = map[string]string{"half": "yes"}
			}
			if rng.IntN(200) == 0 {
				pin.Name = "rare " + pin.Name
			}
			commands = append(commands, state.PinCommand{Pin: pin, At: epoch}.Encode())
			order = append(order, pin)
		}
		apply(t, p, uint64(entry+1), commands...)
	}
	slices.SortFunc(order, func(a, b api.Pin) int { return slices.Compare(a.Cid.Bytes(), b.Cid.Bytes()) })
	for _, filter := range []api.PinFilter{
		{CreatedAfter: epoch.Add(10 * time.Second)},
		{CreatedAfter: epoch.Add(10 * time.Second), CreatedBefore: epoch.Add(13 * time.Second)},
		{NamePrefix: "rare", CreatedAfter: epoch.Add(10 * time.Second)},
		{NamePrefix: "rare", Meta: map[string]string{"half": "yes"}, Peer: testPeer(1), CreatedAfter: epoch.Add(10 * time.Second)},
		{Meta: map[string]string{"half": "yes"}, Peer: testPeer(1)},
		{Meta: map[string]string{"half": "yes"}, CreatedBefore: epoch.Add(990 * time.Second)},
	} {
		var want []api.Cid
		for _, pin := range order {
			if filter.Selects(pin) {
				want = append(want, pin.Cid)
			}
		}
		if count, err := p.Count(noContext(), filter); err != nil || int(count) != len(want) {
			t.Errorf("count %+v: %d, %v, want %d", filter, count, err, len(want))
		}
		var got []api.Cid
		filter.Limit = len(want)/3 + 1
		for page := list(t, p, filter); len(page) > 0; page = list(t, p, filter) {
			for _, pin := range page {
				got = append(got, pin.Cid)
			}
			filter.After = page[len(page)-1].Cid
		}
		if !slices.Equal(got, want) {
			t.Errorf("list %+v: %d pins, want %d", filter, len(got), len(want))
		}
	}
	checkClean(t, p)
}

// TestSelectionsEndWithTheirReader: also where nothing is selected.
func TestSelectionsEndWithTheirReader(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	shard := testPin(1, testPeer(1))
	shard.Type = api.TypeShard
	apply(t, p, 1, state.PinCommand{Pin: shard, At: epoch}.Encode(), state.PinCommand{Pin: testPin(2, testPeer(1)), At: epoch}.Encode())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, filter := range []api.PinFilter{{Types: []api.PinType{api.TypeMeta}}, {Name: "pin 1"}, {NamePrefix: "pin", Types: []api.PinType{api.TypeMeta}},
		{Name: "pin 1", Peer: testPeer(1)}} {
		ended := error(nil)
		for _, err := range p.Select(ctx, filter) {
			ended = err
		}
		if !errors.Is(ended, context.Canceled) {
			t.Errorf("list %+v: %v", filter, ended)
		}
		if _, err := p.Count(ctx, filter); filter.Name != "" && !errors.Is(err, context.Canceled) {
			t.Errorf("count %+v: %v", filter, err)
		}
	}
}
