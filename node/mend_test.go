package node

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	kubo "github.com/ipfs/kubo/config"
	"github.com/libp2p/go-libp2p/core/peer"
)

// editConfig changes the config file of a repository as a user might.
func editConfig(t *testing.T, dir string, edit func(k map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, kubo.DefaultConfigFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var k map[string]any
	if err := json.Unmarshal(text, &k); err != nil {
		t.Fatal(err)
	}
	edit(k)
	if text, err = json.Marshal(k); err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestBrokenConfigStarts checks that a repository opens with its blocks
// whatever profile was applied to it.
func TestBrokenConfigStarts(t *testing.T) {
	section := func(k map[string]any, name string) map[string]any {
		s, ok := k[name].(map[string]any)
		if !ok {
			s = map[string]any{}
			k[name] = s
		}
		return s
	}
	for _, store := range []BlockStore{BlocksPebble, BlocksFlatfs} {
		c := testConfig(t)
		c.BlockStore = store
		n, stop := startStoppable(t, c)
		root := add(t, n, []byte("kept"), "pin=true&raw-leaves=true")
		stop()
		for name, edit := range map[string]func(k map[string]any){
			"an empty spec": func(k map[string]any) { section(k, "Datastore")["Spec"] = map[string]any{} },
			"no spec":       func(k map[string]any) { delete(section(k, "Datastore"), "Spec") },
			"profile badgerds": func(k map[string]any) {
				section(k, "Datastore")["Spec"] = map[string]any{"type": "measure", "prefix": "badger.datastore",
					"child": map[string]any{"type": "badgerds", "path": "badgerds", "syncWrites": false, "truncate": true}}
			},
			"the rest": func(k map[string]any) {
				section(k, "Swarm")["AddrFilters"] = []string{"nonsense", "/ip4/10.0.0.0/ipcidr/99"}
				section(k, "Swarm")["Transports"] = map[string]any{"Network": map[string]any{"TCP": false, "QUIC": false}}
				section(k, "Ipns")["RecordLifetime"], section(k, "Ipns")["RepublishPeriod"] = "long", "1ns"
				section(k, "Experimental")["Libp2pStreamMounting"] = true
			},
		} {
			editConfig(t, c.Dir, edit)
			n, stop := startStoppable(t, c)
			if has, _, err := n.Complete(t.Context(), dataPin(root)); err != nil || !has {
				t.Errorf("%s, %s: the block is not there: %v", store, name, err)
			}
			if k, err := n.open.core.Repo.Config(); err != nil || k.Experimental.Libp2pStreamMounting {
				t.Errorf("%s, %s: streams may be mounted: %v", store, name, err)
			}
			stop()
		}
	}
}

// TestPublicAfterPrivate checks that a repository can be taken from one kind
// of network to the other and back.
func TestPublicAfterPrivate(t *testing.T) {
	c := testConfig(t)
	for _, public := range []bool{false, true, false} {
		c.Public, c.Bootstrap = public, []string{"/ip4/127.0.0.1/tcp/1/p2p/12D3KooWEwHpUvuCFaAkzi72it2UgiegkVkiBhPZyoZLvck7amTh"}
		_, stop := startStoppable(t, c)
		stop()
	}
}

// TestAddressFilters checks that nodes of a cluster reach one another though
// the profile "server", which filters private networks and the loopback, was
// applied to each.
func TestAddressFilters(t *testing.T) {
	var nodes []*Node
	for range 2 {
		c := testConfig(t)
		_, stop := startStoppable(t, c)
		stop()
		editConfig(t, c.Dir, func(k map[string]any) {
			k["Swarm"].(map[string]any)["AddrFilters"] = []string{"/ip4/127.0.0.0/ipcidr/8", "/ip4/10.0.0.0/ipcidr/8"}
		})
		nodes = append(nodes, start(t, c))
	}
	nodes[0].Peer([]peer.AddrInfo{info(nodes[1])})
	nodes[1].Peer([]peer.AddrInfo{info(nodes[0])})
	for range 20 { // each waits for a connection, for a while
		if nodes[0].awaitConnection(t.Context(), nodes[0].open, nodes[1].ID()) {
			return
		}
	}
	t.Fatal("the nodes do not reach one another")
}
