package state_test

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"

	"holdfast/api"
	"holdfast/state"
)

func TestGetMany(t *testing.T) {
	p := open(t, vfs.NewMem(), "state")
	var commands [][]byte
	for i := 0; i < 100; i += 2 {
		commands = append(commands, state.PinCommand{Pin: testPin(i, testPeer(1)), At: epoch}.Encode())
	}
	apply(t, p, 1, commands...)
	var cids []cid.Cid
	for i := range 100 {
		cids = append(cids, testCid(99-i))
	}
	cids = append(cids, testCid(4), testCid(4))
	pins := make([]api.Pin, len(cids))
	if err := p.GetMany(cids, pins); err != nil {
		t.Fatal(err)
	}
	for i, c := range cids {
		want, _, err := p.Get(c)
		if err != nil {
			t.Fatal(err)
		}
		assertPin(t, pins[i], want)
	}
	few := slices.Clone(pins[95:100]) // of other pins
	if err := p.GetMany(cids[:5], few); err != nil {
		t.Fatal(err)
	}
	for i := range few {
		assertPin(t, few[i], pins[i])
	}
	if err := p.GetMany(nil, nil); err != nil {
		t.Errorf("pins of none: %v", err)
	}
}

// More pins than are kept in memory, written, changed and removed: GetMany
// returns what Get does, and so it is after a restart.
func TestGetManyBeyondMemory(t *testing.T) {
	const pins = 20_000
	fs := vfs.NewMem()
	p := open(t, fs, "state")
	cids := make([]cid.Cid, pins)
	for i := range cids {
		cids[i] = testCid(i)
	}
	index := uint64(0)
	write := func(from, to, step int, command func(i int) []byte) {
		for i := from; i < to; {
			var commands [][]byte
			for ; i < to && len(commands) < 1000; i += step {
				commands = append(commands, command(i))
			}
			index++
			apply(t, p, index, commands...)
		}
	}
	check := func() {
		t.Helper()
		got := make([]api.Pin, len(cids))
		if err := p.GetMany(cids, got); err != nil {
			t.Fatal(err)
		}
		for i, c := range cids {
			want, _, err := p.Get(c)
			if err != nil {
				t.Fatal(err)
			}
			if got[i].Revision != want.Revision || got[i].Name != want.Name {
				t.Fatalf("pin %d: %+v, want %+v", i, got[i], want)
			}
		}
	}
	pin := func(name string) func(int) []byte {
		return func(i int) []byte {
			old, _, err := p.Get(cids[i])
			if err != nil {
				t.Fatal(err)
			}
			next := testPin(i, testPeer(1))
			next.Name = name
			return state.PinCommand{Pin: next, Expect: old.Revision, At: epoch}.Encode()
		}
	}
	unpin := func(i int) []byte {
		old, _, err := p.Get(cids[i])
		if err != nil {
			t.Fatal(err)
		}
		return state.UnpinCommand{Cid: cids[i], Expect: old.Revision, At: epoch}.Encode()
	}
	write(0, pins, 1, pin("first"))
	check()
	write(0, pins, 7, pin("second"))
	write(0, pins, 5, unpin)
	check()
	write(0, pins, 35, pin("third"))
	check()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = open(t, fs, "state")
	check()
}
