package state_test

import (
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
	"holdfast/state"
)

// TestRequestsAreForgotten: the memory of requests keeps the last thousand and
// not many more, also across a restart.
func TestRequestsAreForgotten(t *testing.T) {
	fs := vfs.NewMem()
	p := open(t, fs, "pinset")
	unpin := func(n int) []byte {
		return state.UnpinCommand{Cid: testCid(1), RequestID: fmt.Sprint(n), At: epoch}.Encode()
	}
	const perEntry = 100
	p.SetLimits(1000, 1, 1, 1)
	for entry := range 11 {
		var commands [][]byte
		for n := range perEntry {
			commands = append(commands, unpin(entry*perEntry+n))
		}
		apply(t, p, uint64(entry+1), commands...)
	}
	check := func() {
		t.Helper()
		// Not pinned, and remembered as such: the first answer even though it is
		// pinned by now.
		for n, want := range map[int]uint64{100: 2, 500: 6, 1099: 11} {
			if got := apply(t, p, p.Applied()+1, unpin(n))[0]; !got.Repeat || got.Index != want {
				t.Errorf("request %d: %+v, want the result of entry %d", n, got, want)
			}
		}
	}
	apply(t, p, 12, state.PinCommand{Pin: testPin(1, testPeer(1)), At: epoch}.Encode())
	check()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = open(t, fs, "pinset")
	check()
	if got := apply(t, p, p.Applied()+1, unpin(99))[0]; got.Repeat || code(got.Err) != api.CodeConflict {
		t.Errorf("a forgotten request: %+v", got)
	}
}

// TestFeedIsBounded: the feed keeps the last changes and says when it cannot
// tell.
func TestFeedIsBounded(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	p.SetLimits(1, 2500, 1000, 1)
	const perEntry = 50
	var revision uint64
	for entry := range uint64(55) {
		var commands [][]byte
		for n := range perEntry {
			pin := testPin(0, testPeer(1))
			pin.Cid = api.NewCid(testCid(n))
			commands = append(commands, state.PinCommand{Pin: pin, Expect: revision, At: epoch}.Encode())
		}
		revision = 2 * (entry + 1)
		apply(t, p, revision, commands...)
	}
	// 2,500 changes are 50 entries: those of 12 to 110.
	for since, want := range map[uint64]int{10: 50, 11: 50, 12: 49, 108: 1, 109: 1, 110: 0} {
		changes, ok := p.Changes(since)
		if !ok || len(changes) != want*perEntry {
			t.Errorf("since %d: %d changes, %v; want %d", since, len(changes), ok, want*perEntry)
		}
	}
	for _, since := range []uint64{0, 1, 9} {
		if _, ok := p.Changes(since); ok {
			t.Errorf("since %d: the feed says that it reaches back so far", since)
		}
	}
}

// TestFeedIsBoundedByIndexes: many entries with one change each.
func TestFeedIsBoundedByIndexes(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	p.SetLimits(1, 2500, 20, 1)
	for n := range uint64(30) {
		apply(t, p, n+1, state.PinCommand{Pin: testPin(1, testPeer(1)), Expect: n, At: epoch}.Encode())
	}
	if changes, ok := p.Changes(10); !ok || len(changes) != 20 {
		t.Errorf("%d changes, %v", len(changes), ok)
	}
	if _, ok := p.Changes(9); ok {
		t.Error("the feed says that it reaches back farther than it does")
	}
}

// TestTokensAreBounded: of too many tokens, the one that ends first goes.
func TestTokensAreBounded(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	hash := func(n int) [32]byte { return sha256.Sum256(fmt.Append(nil, n)) }
	var commands [][]byte
	for n := range 1001 {
		commands = append(commands, state.CreateTokenCommand{Hash: hash(n), ExpiresAt: epoch.Add(time.Duration((n+500)%1001+1) * time.Minute)}.Encode())
	}
	apply(t, p, 1, commands...)
	join := func(n, peer int) *api.Error {
		return apply(t, p, p.Applied()+1, state.JoinCommand{Hash: hash(n), At: epoch, Member: testMember(peer)}.Encode())[0].Err
	}
	// 501 ends after a minute.
	if err := join(501, 1); code(err) != api.CodeForbidden {
		t.Errorf("the token that was given up: %v", err)
	}
	for _, n := range []int{0, 500, 502, 1000} {
		if err := join(n, n); err != nil {
			t.Errorf("token %d: %v", n, err)
		}
	}
}
