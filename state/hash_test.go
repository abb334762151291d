package state_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
	"holdfast/state"
)

// INV-HASH covers all that the log made of the pinset: whatever a command
// changes, the hash tells.
func TestHashCoversMembers(t *testing.T) {
	member := testMember(1)
	member.CommandVersion = 1
	base := [][]byte{state.InitClusterCommand{ClusterID: "c", Member: member}.Encode()}
	newer := member
	newer.CommandVersion = 7
	named := member
	named.Name = "another"
	seen := map[string]string{}
	for name, commands := range map[string][][]byte{
		"as it was":       nil,
		"voter":           {state.SetRoleCommand{ID: member.ID, Role: api.RoleVoter}.Encode()},
		"learner":         {state.SetRoleCommand{ID: member.ID, Role: api.RoleLearner}.Encode()},
		"newer program":   {state.PutMemberCommand{Member: newer}.Encode()},
		"other name":      {state.PutMemberCommand{Member: named}.Encode()},
		"agreed on newer": {state.PutMemberCommand{Member: newer}.Encode(), state.RaiseVersionCommand{Version: 2}.Encode()},
	} {
		p, err := state.OpenKnowing(vfs.NewMem(), "state", 7)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		apply(t, p, 1, base...)
		for _, answer := range apply(t, p, 2, commands...) {
			if answer.Err != nil {
				t.Fatalf("%s: %v", name, answer.Err)
			}
		}
		hash := mustHash(t, p)
		if other, twice := seen[hash]; twice {
			t.Errorf("INV-HASH: %q and %q have the hash %s", name, other, hash)
		}
		seen[hash] = name
	}
}
