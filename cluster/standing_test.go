package cluster

import (
	"testing"
	"time"

	"holdfast/api"
)

// A peer is told whether it is a member by what a majority knows, and nothing
// when there is none.
func TestStanding(t *testing.T) {
	recovered := time.Unix(7, 0)
	w := newWorld(t, 3, func(c *Config) { c.Recovered, c.LeaderWait = recovered, time.Nanosecond })
	if got, err := w.cluster.Standing(t.Context(), testPeer(1)); err != nil || !got.Member {
		t.Errorf("a member is told %+v, %v", got, err)
	}
	if err := w.cluster.RemovePeer(t.Context(), api.RemoveRequest{Peer: testPeer(1)}); err != nil {
		t.Fatal(err)
	}
	if got, err := w.cluster.Standing(t.Context(), testPeer(1)); err != nil || got.Member || !got.Recovered.Equal(recovered) {
		t.Errorf("a former member is told %+v, %v", got, err)
	}
	w.leader = ""
	if got, err := w.cluster.Standing(t.Context(), testPeer(1)); api.CodeOf(err) != api.CodeNoLeader {
		t.Errorf("without a leader a former member is told %+v, %v", got, err)
	}
}
