package state_test

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/state"
)

// A peer that is killed keeps the members, whatever else of its pinset was not
// on the disk yet: it needs their addresses to learn the rest from them.
func TestMembersAreDurableAtOnce(t *testing.T) {
	mem := vfs.NewCrashableMem()
	p := open(t, mem, "state")
	commands := [][]byte{state.InitClusterCommand{ClusterID: "c", Member: testMember(1)}.Encode(),
		state.CreateTokenCommand{ExpiresAt: epoch.Add(time.Hour)}.Encode(),
		state.JoinCommand{At: epoch, Member: testMember(2)}.Encode()}
	if _, err := p.Apply(1, commands); err != nil {
		t.Fatal(err)
	}
	after := open(t, mem.CrashClone(vfs.CrashCloneCfg{}), "state")
	members, err := after.Members()
	if err != nil {
		t.Fatal(err)
	}
	if len(members) != 2 || after.ClusterID() != "c" || after.Applied() != 1 {
		t.Errorf("after the crash: %d members of cluster %q, applied %d", len(members), after.ClusterID(), after.Applied())
	}
}
