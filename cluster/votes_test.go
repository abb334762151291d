package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/state"
)

// A leader fell after the pinset had forgotten a peer and before raft had.
func TestHalfARemovalIsFinished(t *testing.T) {
	w := newWorld(t, 4, nil)
	w.propose(state.RemoveMemberCommand{ID: testPeer(3)}.Encode())
	w.cluster.balance(t.Context(), time.Now())
	if slices.ContainsFunc(w.members, func(m api.RaftMember) bool { return m.ID == testPeer(3) }) || len(w.members) != 3 {
		t.Errorf("members %v", w.members)
	}
}

func TestRolesAndForce(t *testing.T) {
	w := newWorld(t, 3, nil)
	set := func(i int, role api.Role) error {
		return w.cluster.SetRole(t.Context(), api.RoleRequest{Peer: testPeer(i), Role: role})
	}
	w.setState(2, api.PeerDown)
	if err := set(1, api.RoleLearner); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a demotion that costs the quorum: %v", err)
	}
	if err := w.cluster.RemovePeer(t.Context(), api.RemoveRequest{Peer: testPeer(1)}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a removal that costs the quorum: %v", err)
	}
	if err := set(2, api.RoleLearner); err != nil || w.members[2].Voter {
		t.Errorf("the dead one keeps its vote: %v", err)
	}
	if err := set(2, api.RoleVoter); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("a dead peer is promoted: %v", err)
	}
	if err := set(2, "king"); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("an unknown role: %v", err)
	}
	if err := set(9, api.RoleAuto); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("an unknown peer: %v", err)
	}
	w.setState(2, api.PeerUp)
	if err := set(2, api.RoleVoter); err != nil || !w.members[2].Voter {
		t.Errorf("promote: %v", err)
	}
	if member, _, _ := w.state.Member(testPeer(2)); member.Role != api.RoleVoter {
		t.Errorf("the wish is %q", member.Role)
	}
	w.setState(2, api.PeerDown)
	if err := w.cluster.RemovePeer(t.Context(), api.RemoveRequest{Peer: testPeer(1), Force: true}); err != nil || len(w.members) != 2 {
		t.Errorf("a forced removal: %v", err)
	}
}

// A learner that has yet to receive the pinset gets no vote, however few the
// entries are that it lacks: as a voter it would hold up every write that needs
// it. One that keeps up under load gets its vote although it is never level.
func TestLearnerCatchesUpFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		w.members[1].Voter = false
		learner := testPeer(1)
		led := time.Now()
		write := func() {
			w.propose(state.CreateTokenCommand{ExpiresAt: led.Add(time.Hour)}.Encode())
		}
		step := func(applied func() uint64) bool {
			for range 30 {
				write()
				w.mu.Lock()
				w.applied[learner] = applied()
				w.mu.Unlock()
				w.cluster.balance(t.Context(), led)
				time.Sleep(balanceInterval)
			}
			return w.members[1].Voter
		}
		if step(func() uint64 { return 1 }) {
			t.Error("it votes, and has the first entry only")
		}
		if err := w.cluster.SetRole(t.Context(), api.RoleRequest{Peer: learner, Role: api.RoleVoter}); api.CodeOf(err) != api.CodeConflict {
			t.Errorf("it is promoted by hand: %v", err)
		}
		if !step(func() uint64 { return w.index - 4 }) {
			t.Error("it is 2 s behind, and does not vote")
		}
	})
}

// Who cannot take over is refused at once, with the reason, and nothing is
// tried; so is what was tried in vain.
func TestTransferLeadershipSaysWhyNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5, nil)
		var asked []peer.ID
		stubborn := api.Errorf(api.CodeConflict, "did not take over")
		w.transfer = func(to peer.ID) error {
			asked = append(asked, to)
			if to == testPeer(4) {
				return stubborn
			}
			return nil
		}
		w.applied = map[peer.ID]uint64{testPeer(3): w.state.Applied()}
		w.members[1].Voter = false
		w.setState(2, api.PeerDown)
		if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{})); err != nil {
			t.Fatal(err)
		}
		w.cluster.progress.note(w.state.Applied(), time.Now())
		time.Sleep(2 * caughtUp)
		began := time.Now()
		for i, want := range map[int]string{1: "no vote", 2: "not up", 3: "behind", 4: "did not take over", 9: "not a peer"} {
			err := w.cluster.TransferLeadership(t.Context(), testPeer(i))
			if err == nil || !strings.Contains(err.Error(), want) || api.CodeOf(err) == api.CodeUnavailable {
				t.Errorf("to peer %d: %v, want %q", i, err, want)
			}
		}
		if len(asked) != 1 || asked[0] != testPeer(4) || time.Since(began) != 0 {
			t.Errorf("asked %v, and took %s", asked, time.Since(began))
		}
		w.applied = nil
		if err := w.cluster.TransferLeadership(t.Context(), testPeer(3)); err != nil {
			t.Error(err)
		}
		// The leader that is to go finds one that takes over.
		asked = nil
		w.members[3], w.members[4] = w.members[4], w.members[3]
		if err := w.cluster.handOver(t.Context(), w.members); err != nil || len(asked) != 2 || asked[1] != testPeer(3) {
			t.Errorf("handed over: %v, asked %v", err, asked)
		}
	})
}
