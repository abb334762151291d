package daemon

import (
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// TestMemberNodes follows whose IPFS nodes those of the cluster are.
func TestMemberNodes(t *testing.T) {
	view := func(member, ipfs peer.ID) api.PeerView {
		return api.PeerView{Report: api.PeerReport{Peer: member, IPFS: ipfs}}
	}
	nodes := memberNodes{}
	for _, step := range []struct {
		what    string
		views   []api.PeerView
		members []peer.ID
		want    []peer.ID
	}{
		{"nothing is known", nil, nil, nil},
		{"the log has not come yet: the leader is believed", []api.PeerView{view("a", "A"), view("b", "B")}, nil, []peer.ID{"A", "B"}},
		{"one that says nothing of its node yet", []api.PeerView{view("a", "A"), view("b", "B"), view("c", "")}, []peer.ID{"a", "b", "c"}, []peer.ID{"A", "B"}},
		{"a new leader has heard nobody", []api.PeerView{view("a", ""), view("b", ""), view("c", "")}, []peer.ID{"a", "b", "c"}, []peer.ID{"A", "B"}},
		{"there is no leader", nil, []peer.ID{"a", "b", "c"}, []peer.ID{"A", "B"}},
		{"another node", []api.PeerView{view("a", "A2"), view("b", "B"), view("c", "C")}, []peer.ID{"a", "b", "c"}, []peer.ID{"A2", "B", "C"}},
		{"one was removed, and the leader's list is old", []api.PeerView{view("a", "A2"), view("b", "B"), view("c", "C")}, []peer.ID{"a", "c"}, []peer.ID{"A2", "C"}},
	} {
		nodes.update(step.views, step.members)
		var got []peer.ID
		for _, info := range nodes.list() {
			got = append(got, info.ID)
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: %q; want %q", step.what, got, step.want)
		}
	}
}
