package state_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
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

// epoch is the time at which the tests take place.
var epoch = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func testCid(n int) cid.Cid {
	hash, err := multihash.Sum(fmt.Appendf(nil, "content %d", n), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	if n%5 == 0 {
		return cid.NewCidV0(hash)
	}
	return cid.NewCidV1(cid.Raw, hash)
}

func testPeer(n int) peer.ID {
	hash, err := multihash.Sum(fmt.Appendf(nil, "peer %d", n), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return peer.ID(hash)
}

func testMember(n int) api.Member {
	return api.Member{ID: testPeer(n), Name: fmt.Sprintf("peer%d", n), JoinedAt: epoch,
		Addresses: []multiaddr.Multiaddr{multiaddr.StringCast(fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", 9096+10*n))}}
}

func testPin(n int, allocations ...peer.ID) api.Pin {
	return api.Pin{
		Cid:         api.NewCid(testCid(n)),
		Type:        api.TypeData,
		Allocations: allocations,
		MaxDepth:    -1,
		PinOptions: api.PinOptions{Name: fmt.Sprintf("pin %d", n), Mode: api.ModeRecursive,
			ReplicationFactorMin: 1, ReplicationFactorMax: len(allocations)},
	}
}

func open(t testing.TB, fs vfs.FS, dir string) *state.Pinset {
	t.Helper()
	p, err := state.Open(fs, dir)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

func apply(t testing.TB, p *state.Pinset, index uint64, commands ...[]byte) []answer {
	t.Helper()
	raw, err := p.Apply(index, commands)
	if err != nil {
		t.Fatalf("apply %d: %v", index, err)
	}
	out := make([]answer, len(raw))
	for i := range raw {
		out[i] = answerOf(t, raw[i])
	}
	return out
}

// answer is a result with its pin.
type answer struct {
	Pin    api.Pin
	Index  uint64
	Err    *api.Error
	Repeat bool
}

func answerOf(t testingT, raw any) answer {
	t.Helper()
	result := raw.(*state.Result)
	pin, err := result.Pin()
	if err != nil {
		t.Fatalf("pin of a result: %v", err)
	}
	return answer{Pin: pin, Index: result.Index, Err: result.Err, Repeat: result.Repeat}
}

func list(t testing.TB, p *state.Pinset, filter api.PinFilter) []api.Pin {
	t.Helper()
	var out []api.Pin
	for pin, err := range p.Pins(filter) {
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		out = append(out, pin)
	}
	return out
}

func mustHash(t testing.TB, p *state.Pinset) string {
	t.Helper()
	hash, index, err := p.Hash()
	if err != nil {
		t.Fatalf("hash: %v", err)
	}
	if index != p.Applied() {
		t.Fatalf("hash at index %d, applied is %d", index, p.Applied())
	}
	return hash
}

func code(err *api.Error) api.Code {
	if err == nil {
		return ""
	}
	return err.Code
}

func TestPinAndUnpin(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	pin := testPin(1, testPeer(1), testPeer(2))
	pin.UserAllocations = []peer.ID{testPeer(3)}
	pin.ExpireAt = epoch.Add(time.Hour + 300*time.Millisecond)
	pin.Metadata = map[string]string{"b": "2", "a": "1", "": "\xff"}
	pin.Origins = []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/1.2.3.4/tcp/4001/p2p/" + testPeer(7).String())}
	pin.PinUpdate = api.NewCid(testCid(8))

	stored := apply(t, p, 7, state.PinCommand{Pin: pin, At: epoch.Add(500 * time.Millisecond), RequestID: "r"}.Encode())[0]
	want := pin
	want.UserAllocations, want.Revision, want.Timestamp, want.ExpireAt = nil, 7, epoch, epoch.Add(time.Hour)
	assertPin(t, stored.Pin, want)
	if stored.Err != nil || stored.Index != 7 || stored.Repeat {
		t.Errorf("result %+v", stored)
	}
	got, found, err := p.Get(testCid(1))
	if err != nil || !found {
		t.Fatalf("get: %v, %v", found, err)
	}
	assertPin(t, got, want)

	results := apply(t, p, 9,
		state.PinCommand{Pin: testPin(1, testPeer(4)), Expect: 6, At: epoch}.Encode(),
		state.PinCommand{Pin: pin, At: epoch, RequestID: "r"}.Encode(),
		state.UnpinCommand{Cid: testCid(2), At: epoch}.Encode(),
		state.UnpinCommand{Cid: testCid(1), Expect: 6, At: epoch}.Encode(),
		state.UnpinCommand{Cid: testCid(1), Expect: 7, At: epoch, RequestID: "u"}.Encode(),
		state.UnpinCommand{Cid: testCid(1), Expect: 7, At: epoch, RequestID: "u"}.Encode(),
		state.PinCommand{Pin: testPin(1), At: epoch}.Encode(),
		state.UnpinCommand{Cid: testCid(1), At: epoch, RequestID: "r"}.Encode(),
	)
	for i, want := range []struct {
		code   api.Code
		index  uint64
		repeat bool
	}{{api.CodeConflict, 9, false}, {"", 7, true}, {api.CodeNotFound, 9, false}, {api.CodeConflict, 9, false},
		{"", 9, false}, {"", 9, true}, {api.CodeInvalid, 9, false}, {api.CodeInvalid, 9, false}} {
		got := results[i]
		if code(got.Err) != want.code || got.Index != want.index || got.Repeat != want.repeat {
			t.Errorf("command %d: %+v, want %+v", i, got, want)
		}
	}
	for _, i := range []int{1, 4, 5} {
		assertPin(t, results[i].Pin, want)
	}
	if _, found, _ := p.Get(testCid(1)); found {
		t.Error("still pinned")
	}
	if stats := p.Stats(); stats.Pins != 0 || len(stats.Peers) != 0 || stats.Applied != 9 {
		t.Errorf("stats %+v", stats)
	}
}

func assertPin(t testing.TB, got, want api.Pin) {
	t.Helper()
	if g, w := pinText(got), pinText(want); g != w {
		t.Errorf("pin\n got %s\nwant %s", g, w)
	}
}

func pinText(p api.Pin) string {
	return fmt.Sprintf("%+v %v %v %v %+v", p, p.Timestamp.Unix(), p.ExpireAt.Unix(), p.MaxDepth, p.PinOptions)
}

func TestListingByPeer(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	var commands [][]byte
	for n := range 100 {
		pin := testPin(n, testPeer(n%3+1), testPeer((n+1)%3+1))
		if n%4 == 0 {
			pin.Allocations, pin.ReplicationFactorMin, pin.ReplicationFactorMax = nil, -1, -1
		}
		commands = append(commands, state.PinCommand{Pin: pin, At: epoch}.Encode())
	}
	apply(t, p, 3, commands...)
	all := list(t, p, api.PinFilter{})
	if len(all) != 100 || !slices.IsSortedFunc(all, func(a, b api.Pin) int { return slices.Compare(a.Cid.Bytes(), b.Cid.Bytes()) }) {
		t.Fatalf("%d pins, or not sorted", len(all))
	}
	for n := range 5 {
		var want []api.Pin
		for _, pin := range all {
			if pin.AllocatedTo(testPeer(n)) {
				want = append(want, pin)
			}
		}
		same := func(a, b api.Pin) bool { return a.Cid == b.Cid }
		if got := list(t, p, api.PinFilter{Peer: testPeer(n)}); !slices.EqualFunc(got, want, same) {
			t.Errorf("peer %d: %d pins, want %d", n, len(got), len(want))
		}
		got := list(t, p, api.PinFilter{Peer: testPeer(n), After: want[3].Cid, Limit: 7})
		if !slices.EqualFunc(got, want[4:11], same) {
			t.Errorf("peer %d: page has %d pins", n, len(got))
		}
	}
	if got := list(t, p, api.PinFilter{After: all[10].Cid, Limit: 5}); len(got) != 5 || got[0].Cid != all[11].Cid {
		t.Errorf("page of all: %d", len(got))
	}
	if got := list(t, p, api.PinFilter{Types: []api.PinType{api.TypeShard}}); len(got) != 0 {
		t.Errorf("%d shard pins", len(got))
	}
	stats := p.Stats()
	if stats.Pins != 100 || stats.Everywhere != 25 || stats.Types[api.TypeData] != 100 || stats.Peers[testPeer(1)]+stats.Peers[testPeer(2)]+stats.Peers[testPeer(3)] != 150 {
		t.Errorf("stats %+v", stats)
	}
}

func TestMembersAndTokens(t *testing.T) {
	fs := vfs.NewMem()
	p := open(t, fs, "pinset")
	hash := sha256.Sum256([]byte("secret"))
	old := sha256.Sum256([]byte("old"))
	join := func(hash [32]byte, n int, at time.Time) []byte {
		return state.JoinCommand{Hash: hash, At: at, Member: testMember(n)}.Encode()
	}
	results := apply(t, p, 1,
		state.InitClusterCommand{ClusterID: "C", Member: testMember(0)}.Encode(),
		state.InitClusterCommand{ClusterID: "D", Member: testMember(1)}.Encode(),
		state.CreateTokenCommand{Hash: hash, ExpiresAt: epoch.Add(time.Hour)}.Encode(),
		state.CreateTokenCommand{Hash: hash, ExpiresAt: epoch.Add(time.Hour)}.Encode(),
		state.CreateTokenCommand{Hash: old, ExpiresAt: epoch}.Encode(),
		join(sha256.Sum256([]byte("guess")), 1, epoch.Add(-time.Hour)),
		join(old, 1, epoch),
		join(hash, 1, epoch),
		join(hash, 1, epoch),
		join(hash, 2, epoch),
		state.RemoveMemberCommand{ID: testPeer(5)}.Encode(),
		state.PutMemberCommand{Member: api.Member{ID: testPeer(1), Name: "moved"}}.Encode(),
	)
	for i, want := range []api.Code{"", api.CodeConflict, "", api.CodeConflict, "", api.CodeForbidden, api.CodeForbidden, "", "", api.CodeForbidden, api.CodeNotFound, ""} {
		if code(results[i].Err) != want {
			t.Errorf("command %d: %v, want code %q", i, results[i].Err, want)
		}
	}
	if !results[8].Repeat {
		t.Error("a repeated join is not marked")
	}
	before := mustHash(t, p)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = open(t, fs, "pinset")
	members, err := p.Members()
	if err != nil || len(members) != 2 || p.ClusterID() != "C" || mustHash(t, p) != before {
		t.Fatalf("members %+v, %v, cluster %q", members, err, p.ClusterID())
	}
	member, found, err := p.Member(testPeer(1))
	if err != nil || !found || member.Name != "moved" || !member.JoinedAt.Equal(epoch) {
		t.Errorf("member %+v, %v, %v", member, found, err)
	}
	removed := apply(t, p, 2, state.RemoveMemberCommand{ID: testPeer(1)}.Encode(), join(hash, 1, epoch))
	if removed[0].Err != nil || code(removed[1].Err) != api.CodeForbidden {
		t.Errorf("removed member came back with its old token: %+v", removed)
	}
}

func TestExpired(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	expiring := func(n int, at time.Time) []byte {
		pin := testPin(n, testPeer(1))
		pin.ExpireAt = at
		return state.PinCommand{Pin: pin, At: epoch}.Encode()
	}
	apply(t, p, 1, expiring(1, epoch.Add(2*time.Second)), expiring(2, epoch.Add(time.Second)), expiring(3, time.Time{}), expiring(4, time.Unix(-5, 0)))
	check := func(at time.Time, limit int, want ...int) {
		t.Helper()
		got, err := p.Expired(at, limit)
		if err != nil || len(got) != len(want) {
			t.Fatalf("expired: %d pins, %v, want %d", len(got), err, len(want))
		}
		for i := range want {
			if !got[i].Cid.Equals(testCid(want[i])) {
				t.Errorf("pin %d is %s", i, got[i].Name)
			}
		}
	}
	check(epoch, 10, 4)
	check(epoch.Add(time.Second), 10, 4, 2)
	check(epoch.Add(time.Hour), 10, 4, 2, 1)
	check(epoch.Add(time.Hour), 2, 4, 2)
	apply(t, p, 2, expiring(9, epoch), state.PinCommand{Pin: testPin(2, testPeer(1)), Expect: 1, At: epoch}.Encode(),
		state.UnpinCommand{Cid: testCid(4), Expect: 1, At: epoch}.Encode())
	check(epoch.Add(time.Hour), 10, 9, 1)
}

func TestChanges(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	changed := p.Changed()
	if got, ok := p.Changes(0); !ok || len(got) != 0 {
		t.Errorf("changes of an empty pinset: %v, %v", got, ok)
	}
	apply(t, p, 3, state.PinCommand{Pin: testPin(1, testPeer(1)), At: epoch}.Encode(),
		state.UnpinCommand{Cid: testCid(1), Expect: 3, At: epoch}.Encode(),
		state.PinCommand{Pin: testPin(2, testPeer(1)), At: epoch}.Encode(),
		state.UnpinCommand{Cid: testCid(7), At: epoch}.Encode())
	<-changed
	apply(t, p, 5)
	apply(t, p, 6, state.UnpinCommand{Cid: testCid(2), Expect: 3, At: epoch}.Encode())
	want := []api.Change{{Index: 3, Cid: api.NewCid(testCid(1))}, {Index: 3, Cid: api.NewCid(testCid(2))}, {Index: 6, Cid: api.NewCid(testCid(2))}}
	for since, skip := range map[uint64]int{0: 0, 2: 0, 3: 2, 5: 2, 6: 3} {
		if got, ok := p.Changes(since); !ok || !slices.Equal(got, want[skip:]) {
			t.Errorf("since %d: %v, %v", since, got, ok)
		}
	}
	if _, ok := p.Changes(7); ok {
		t.Error("changes since an index that is not there yet")
	}
	// What was applied before is skipped, and wakes nobody.
	changed = p.Changed()
	if got := apply(t, p, 6, state.UnpinCommand{Cid: testCid(2), At: epoch}.Encode()); got[0].Err != nil || got[0].Index != 0 {
		t.Errorf("replayed: %+v", got)
	}
	select {
	case <-changed:
		t.Error("a replayed entry woke the readers")
	default:
	}
}

func TestCheckpointAndRestore(t *testing.T) {
	fs := vfs.NewMem()
	a, b := open(t, fs, "a/pinset"), open(t, fs, "b/pinset")
	for n := range 50 {
		apply(t, a, uint64(n+1), state.PinCommand{Pin: testPin(n, testPeer(n%3)), At: epoch, RequestID: fmt.Sprint(n)}.Encode())
		apply(t, b, uint64(n+1), state.PinCommand{Pin: testPin(n+1000, testPeer(9)), At: epoch}.Encode())
	}
	if err := a.Checkpoint("snapshots/one"); err != nil {
		t.Fatal(err)
	}
	want := mustHash(t, a)
	apply(t, a, 51, state.PinCommand{Pin: testPin(51, testPeer(1)), At: epoch}.Encode())
	changed := b.Changed()
	read := 0
	for pin, err := range b.Pins(api.PinFilter{}) {
		if read == 0 {
			if err := b.Restore("snapshots/one"); err != nil {
				t.Fatal(err)
			}
			<-changed
		}
		if read++; err != nil || !pin.AllocatedTo(testPeer(9)) {
			t.Fatalf("a listing of the old pinset: %v, %v", pin, err)
		}
	}
	if read != 50 || b.Applied() != 50 || mustHash(t, b) != want {
		t.Errorf("%d read, applied %d", read, b.Applied())
	}
	if got := list(t, b, api.PinFilter{Peer: testPeer(9)}); len(got) != 0 {
		t.Errorf("%d pins are left that are not in the checkpoint", len(got))
	}
	names, err := fs.List("b/pinset")
	if err != nil || len(names) != 2 {
		t.Errorf("folder holds %v, %v", names, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = open(t, fs, "b/pinset")
	if b.Applied() != 50 || mustHash(t, b) != want {
		t.Errorf("opened again: applied %d", b.Applied())
	}
	apply(t, b, 51, state.PinCommand{Pin: testPin(51, testPeer(1)), At: epoch}.Encode())
	if mustHash(t, a) != mustHash(t, b) {
		t.Error("hashes differ")
	}
}
