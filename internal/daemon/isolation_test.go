package daemon

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// A node that reaches no other for half a minute is told; one that has nobody
// to reach, or reaches one, is not.
func TestIsolation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		views := []api.PeerView{{Report: api.PeerReport{Peer: "self", IPFS: "node-self"}, State: api.PeerUp}}
		reached := map[peer.ID]bool{}
		i := &isolation{self: "self", view: func() []api.PeerView { return views }, reaches: func(id peer.ID) bool { return reached[id] }}
		expect := func(when string, want int) {
			t.Helper()
			i.Conditions()
			time.Sleep(isolationTime)
			if got := i.Conditions(); len(got) != want || want > 0 && got[0].Name != api.AlertIsolated {
				t.Errorf("%s: %+v", when, got)
			}
		}
		expect("alone", 0)
		views = append(views, api.PeerView{Report: api.PeerReport{Peer: "a", IPFS: "node-a"}, State: api.PeerDown})
		expect("the other one is down", 0)
		views[1].State = api.PeerUp
		if got := i.Conditions(); len(got) != 0 {
			t.Errorf("at once: %+v", got)
		}
		expect("the other one is up", 1)
		views = append(views, api.PeerView{Report: api.PeerReport{Peer: "b", IPFS: "node-b"}, State: api.PeerUp})
		reached["node-b"] = true
		expect("one of two is reached", 0)
	})
}
