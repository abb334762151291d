package state_test

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
	"holdfast/state"
)

// TestReusableToken shows that a deployment's token admits peer after peer, and
// that a peer may ask again.
func TestReusableToken(t *testing.T) {
	fs := vfs.NewMem()
	p, err := state.Open(fs, "state")
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256([]byte("of a deployment"))
	join := func(n int, at time.Time) answer {
		return apply(t, p, p.Applied()+1, state.JoinCommand{Hash: hash, At: at, Member: testMember(n)}.Encode())[0]
	}
	end := epoch.Add(time.Hour)
	apply(t, p, 1, state.CreateTokenCommand{Hash: hash, ExpiresAt: end, Reusable: true}.Encode())
	for n := 1; n <= 3; n++ {
		if r := join(n, epoch); r.Err != nil || r.Repeat {
			t.Fatalf("peer %d: %+v", n, r)
		}
	}
	if r := join(2, epoch); r.Err != nil || !r.Repeat {
		t.Errorf("a repeat: %+v", r)
	}
	before, _, err := p.Hash()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if p, err = state.Open(fs, "state"); err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if after, _, err := p.Hash(); err != nil || after != before {
		t.Errorf("the hash was %s and is %s after opening again (%v)", before, after, err)
	}
	if r := join(4, epoch); r.Err != nil {
		t.Errorf("after opening again: %+v", r)
	}
	if r := join(5, end); r.Err == nil || r.Err.Code != api.CodeForbidden {
		t.Errorf("after its end: %+v", r)
	}
	if members, err := p.Members(); err != nil || len(members) != 4 {
		t.Errorf("%d members, want 4 (%v)", len(members), err)
	}
}
