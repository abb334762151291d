package cluster

import (
	"strings"
	"testing"

	"holdfast/api"
	"holdfast/state"
)

// newerCommand is one that a later version of the program would have.
type newerCommand struct{ state.RemoveMemberCommand }

func (newerCommand) Version() uint32 { return state.CommandVersion + 1 }

// A command that a peer may not know is not proposed, and nothing is raised
// while a member does not know it.
func TestNewerCommandIsHeldBack(t *testing.T) {
	w := newWorld(t, 3, nil)
	before := w.index
	_, err := w.cluster.propose(t.Context(), newerCommand{state.RemoveMemberCommand{ID: testPeer(1)}})
	if api.CodeOf(err) != api.CodeUnsupported || !strings.Contains(err.Error(), "upgrade all peers") {
		t.Errorf("it was proposed: %v", err)
	}
	w.cluster.raiseVersion(t.Context())
	if w.index != before {
		t.Errorf("something was logged: index %d, was %d", w.index, before)
	}
	if version, err := w.cluster.minVersion(); version != 1 || err != nil {
		t.Errorf("all members know version %d, %v", version, err)
	}
}
