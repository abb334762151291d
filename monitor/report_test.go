package monitor

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// A report that is asked for reaches the leader before its time, from the
// leader itself and from others.
func TestReportAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNet(t, "a", "b")
		if err := n.monitors["b"].Report(t.Context()); !errors.Is(err, api.ErrNoLeader) {
			t.Errorf("without a leader: %v", err)
		}
		n.do(func() { n.leader = "a" })
		defer n.run()()
		synctest.Wait() // the first reports have been sent
		for _, from := range []peer.ID{"a", "b"} {
			n.do(func() { n.broken[from] = "it has changed" })
			if err := n.monitors[from].Report(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, view := range n.monitors["a"].View() {
				if view.Report.Peer == from && view.Report.NodeError != "it has changed" {
					t.Errorf("the leader knows an old report of %s: %+v", from, view.Report)
				}
			}
		}
	})
}
