package state_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"

	"holdfast/api"
	"holdfast/state"
)

// pinned is the command of a new pin.
func pinned(n int) []byte {
	return state.PinCommand{Pin: testPin(n, testPeer(1)), At: epoch}.Encode()
}

// mustKnow checks that the pins up to n are there, by every way of asking, and
// that the next n are not.
func mustKnow(t testing.TB, p *state.Pinset, n int) {
	t.Helper()
	cids := make([]cid.Cid, 2*n)
	for i := range cids {
		cids[i] = testCid(i)
	}
	pins := make([]api.Pin, len(cids))
	if err := p.GetMany(cids, pins); err != nil {
		t.Fatal(err)
	}
	for i, c := range cids {
		_, found, err := p.Get(c)
		if err != nil || found != (i < n) || pins[i].Cid.Defined() != (i < n) {
			t.Fatalf("pin %d of %d: %v, among many %v, %v", i, n, found, pins[i].Cid.Defined(), err)
		}
	}
}

// A new pinset knows from the start which CIDs are not pinned; one that is
// opened or restored knows nothing until it was surveyed. What it answers is the
// same.
func TestSurvey(t *testing.T) {
	const n = 100
	fs := vfs.NewMem()
	p := open(t, fs, "pinset")
	if !p.Surveyed() {
		t.Error("an empty pinset knows nothing")
	}
	var commands [][]byte
	for i := range n {
		commands = append(commands, pinned(i))
	}
	apply(t, p, 1, commands...)
	mustKnow(t, p, n)
	if err := p.Checkpoint("checkpoint"); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = open(t, fs, "pinset")
	again := func() {
		t.Helper()
		if p.Surveyed() {
			t.Error("it knows what it has not read")
		}
		mustKnow(t, p, n)
		if err := p.SurveyNow(t.Context()); err != nil || !p.Surveyed() {
			t.Fatalf("survey: %v, %v", err, p.Surveyed())
		}
		mustKnow(t, p, n)
	}
	again()
	for _, command := range []int{1, n} { // one and many in an entry
		for i, result := range apply(t, p, p.Applied()+1, commands[:command]...) {
			if code(result.Err) != api.CodeConflict {
				t.Errorf("pin %d, which is there, was pinned as a new one: %+v", i, result)
			}
		}
	}
	empty := open(t, fs, "other")
	apply(t, empty, 1, state.InitClusterCommand{ClusterID: "c", Member: testMember(1)}.Encode())
	p = empty
	if err := p.Restore("checkpoint"); err != nil {
		t.Fatal(err)
	}
	again()
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.SurveyNow(stopped); err != nil || p.Surveyed() {
		t.Errorf("a survey that was stopped: %v, done: %v", err, p.Surveyed())
	}
	mustKnow(t, p, n)
}

// Looking up in vain is what makes a survey due.
func TestSurveyIsDue(t *testing.T) {
	fs := vfs.NewMem()
	p := open(t, fs, "pinset")
	apply(t, p, 1, pinned(0), pinned(1))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	for name, miss := range map[string]func(p *state.Pinset, n int){
		"get": func(p *state.Pinset, n int) {
			if _, found, err := p.Get(testCid(n)); found || err != nil {
				t.Errorf("get: %v, %v", found, err)
			}
		},
		"get many": func(p *state.Pinset, n int) {
			if err := p.GetMany([]cid.Cid{testCid(n)}, make([]api.Pin, 1)); err != nil {
				t.Error(err)
			}
		},
		"apply": func(p *state.Pinset, n int) {
			apply(t, p, p.Applied()+1, state.UnpinCommand{Cid: testCid(n), At: epoch}.Encode())
		},
		"apply many": func(p *state.Pinset, n int) {
			var commands [][]byte
			for i := range 40 {
				commands = append(commands, state.UnpinCommand{Cid: testCid(n + i), At: epoch}.Encode())
			}
			apply(t, p, p.Applied()+1, commands...)
		},
	} {
		p := open(t, fs, "pinset")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Survey(ctx) }()
		for n := 10; !p.Surveyed(); n++ {
			miss(p, n)
			runtime.Gosched()
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Surveys while pins come, one at a time: none of them is missed, whatever moment
// of an Apply a survey begins in.
func TestSurveyDuringApply(t *testing.T) {
	n := 3000
	if raced {
		n /= 10
	}
	p := open(t, vfs.NewMem(), "pinset")
	done := make(chan error, 1)
	stop, cancel := context.WithCancel(t.Context())
	go func() {
		var err error
		for err == nil && stop.Err() == nil {
			err = p.SurveyNow(t.Context())
		}
		done <- err
	}()
	for i := range n {
		apply(t, p, uint64(2*i+1), pinned(i))
		if _, found, err := p.Get(testCid(i)); err != nil || !found {
			t.Fatalf("pin %d was missed: %v, %v", i, found, err)
		}
		if i >= 10 { // a small pinset is surveyed often
			apply(t, p, uint64(2*i+2), state.UnpinCommand{Cid: testCid(i - 10), Expect: uint64(2*(i-10) + 1), At: epoch}.Encode())
		}
	}
	cancel()
	if err := <-done; err != nil || !p.Surveyed() {
		t.Fatalf("survey: %v", err)
	}
	for i := range n {
		if _, found, err := p.Get(testCid(i)); err != nil || found != (i >= n-10) {
			t.Fatalf("pin %d: %v, %v", i, found, err)
		}
	}
}
