package state_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"holdfast/api"
	"holdfast/state"
	"holdfast/state/statepb"
)

// newer is a command as the next version of this program would write it.
func newer(t *testing.T, c command) []byte {
	t.Helper()
	var decoded statepb.Command
	if err := proto.Unmarshal(c.Encode(), &decoded); err != nil {
		t.Fatal(err)
	}
	decoded.Version = state.CommandVersion + 1
	data, err := proto.Marshal(&decoded)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func openNewer(t *testing.T, fs vfs.FS) *state.Pinset {
	t.Helper()
	p, err := state.OpenKnowing(fs, "pinset", state.CommandVersion+1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// Peers of two versions share a log: newer commands come in when all know them,
// and from then on who does not know them stays outside.
func TestNewerCommandsNeedEverybody(t *testing.T) {
	next := state.CommandVersion + 1
	member := func(n int, version uint32) api.Member {
		m := testMember(n)
		m.CommandVersion = version
		return m
	}
	join := func(m api.Member) []byte { return state.JoinCommand{At: epoch, Member: m}.Encode() }
	raise := state.RaiseVersionCommand{Version: next}.Encode()
	fs := vfs.NewMem()
	p := openNewer(t, fs)
	old := open(t, vfs.NewMem(), "pinset")
	mixed := [][]byte{
		state.InitClusterCommand{ClusterID: "c", Member: member(1, next)}.Encode(),
		state.CreateTokenCommand{ExpiresAt: epoch.Add(time.Hour), Reusable: true}.Encode(),
		join(member(2, 0)),
		raise,
	}
	for _, peer := range []*state.Pinset{p, old} {
		results := apply(t, peer, 1, mixed...)
		if code(results[3].Err) != api.CodeConflict || peer.Version() != state.CommandVersion {
			t.Fatalf("raised for a member that is too old: %+v, version %d", results[3], peer.Version())
		}
	}
	if mustHash(t, p) != mustHash(t, old) {
		t.Error("the versions differ in what they made of the same entries")
	}
	results := apply(t, p, 2, state.PutMemberCommand{Member: member(2, next)}.Encode(), raise, newer(t, state.SetRoleCommand{ID: testPeer(2), Role: api.RoleVoter}),
		join(member(3, state.CommandVersion)), join(member(3, next)), state.PutMemberCommand{Member: member(2, 0)}.Encode(), raise)
	for i, want := range []api.Code{"", "", "", api.CodeInvalid, "", api.CodeInvalid, ""} {
		if code(results[i].Err) != want {
			t.Errorf("command %d: %v, want code %q", i, results[i].Err, want)
		}
	}
	if message := results[3].Err.Error(); !strings.Contains(message, "install the version") {
		t.Errorf("the old peer was told: %s", message)
	}
	if p.Version() != next {
		t.Errorf("version %d", p.Version())
	}
	if got, _, _ := p.Member(testPeer(2)); got.Role != api.RoleVoter || got.CommandVersion != next {
		t.Errorf("member %+v", got)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(fs, "pinset"); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("an old program opened it: %v", err)
	}
}

// A newer command that nobody agreed on ends the peer, on every version.
func TestNewerCommandBeforeItsTime(t *testing.T) {
	for _, p := range []*state.Pinset{openNewer(t, vfs.NewMem()), open(t, vfs.NewMem(), "pinset")} {
		if _, err := p.Apply(1, [][]byte{newer(t, state.RemoveMemberCommand{ID: testPeer(1)})}); err == nil {
			t.Error("it was applied")
		}
	}
}

// A peer that is announced after it was removed stays removed.
func TestAnnouncementOfRemovedMember(t *testing.T) {
	p := open(t, vfs.NewMem(), "pinset")
	results := apply(t, p, 1,
		state.InitClusterCommand{ClusterID: "c", Member: testMember(1)}.Encode(),
		state.CreateTokenCommand{ExpiresAt: epoch.Add(time.Hour), Reusable: true}.Encode(),
		state.JoinCommand{At: epoch, Member: testMember(2)}.Encode(),
		state.RemoveMemberCommand{ID: testPeer(2)}.Encode(),
		state.PutMemberCommand{Member: testMember(2)}.Encode())
	if code(results[4].Err) != api.CodeNotFound {
		t.Errorf("result %+v", results[4])
	}
	if _, known, err := p.Member(testPeer(2)); known || err != nil {
		t.Errorf("it is a member again (%v)", err)
	}
}
