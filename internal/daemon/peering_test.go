package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

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

// TestMemberNodesAreRemembered restarts a peer in a cluster without a leader: it
// knows the members' nodes as before, less those of members that were removed. A
// file that is missing or damaged says nothing, and is replaced by the next list.
func TestMemberNodesAreRemembered(t *testing.T) {
	key := func(seed byte) peer.ID {
		private, _, err := crypto.GenerateEd25519Key(bytes.NewReader(bytes.Repeat([]byte{seed}, 64)))
		if err != nil {
			t.Fatal(err)
		}
		id, err := peer.IDFromPrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	dir := t.TempDir()
	load := func() memberNodes {
		t.Helper()
		nodes, err := loadMemberNodes(dir)
		if err != nil {
			t.Fatal(err)
		}
		return nodes
	}
	if got := load(); len(got) > 0 {
		t.Errorf("before anything was reported %v are known", got)
	}
	a, b := key(1), key(2)
	at := []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/10.0.0.1/tcp/4001")}
	nodes := memberNodes{a: {ID: key(3), Addrs: at}, b: {ID: key(4)}}
	if err := nodes.save(dir); err != nil {
		t.Fatal(err)
	}
	again := load()
	again.update(nil, []peer.ID{a, b})
	if fmt.Sprint(again.list()) != fmt.Sprint(nodes.list()) {
		t.Errorf("known again are %v; want %v", again.list(), nodes.list())
	}
	again.update(nil, nil) // not even the members are known
	if len(again) != 2 {
		t.Errorf("known without members are %v", again.list())
	}
	again.update(nil, []peer.ID{b})
	if len(again) != 1 || again[b].ID != key(4) {
		t.Errorf("after a removal %v are known", again.list())
	}
	for _, damaged := range []string{"", "null", "[", "{}", `[{"member":"x"}]`, `[{"member":"` + a.String() + `"}]`, `[{"member":"` + a.String() + `","node":{"ID":"nobody","Addrs":[]}}]`} {
		if err := os.WriteFile(filepath.Join(dir, nodesFile), []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := loadMemberNodes(dir)
		if got == nil || len(got) > 0 {
			t.Errorf("%q: %v, %v", damaged, got, err)
		}
		if err := nodes.save(dir); err != nil || len(load()) != 2 {
			t.Errorf("%q is not replaced: %v", damaged, err)
		}
	}
}
