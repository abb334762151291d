package node

import (
	"os"
	"regexp"
	"testing"

	pinner "github.com/ipfs/boxo/pinning/pinner"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/node/conformance"
)

// folder is the repository of one embedded node.
type folder struct {
	dir    string
	blocks BlockStore
}

func (f folder) New(t *testing.T, o conformance.Options) conformance.Node {
	c := testConfig(t)
	c.Dir, c.BlockStore, c.StorageMax = f.dir, f.blocks, o.StorageMax
	c.StallTimeout, c.StallLimit, c.LeaseLinger, c.Wanted = o.StallTimeout, o.StallLimit, o.LeaseLinger, o.Wanted
	n, err := New(c, testLogger())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (f folder) Info(n conformance.Node) peer.AddrInfo { return info(n.(*Node)) }

func (f folder) PinByUser(t *testing.T, n conformance.Node, c cid.Cid, mode api.PinMode) {
	t.Helper()
	command := "pin/add?arg=" + c.String() + "&name=user&recursive=true"
	switch mode {
	case api.ModeDirect:
		command = "pin/add?arg=" + c.String() + "&name=user&recursive=false"
	case "":
		command = "pin/rm?arg=" + c.String()
	}
	if code, body := kuboRPC(t, n.(*Node), command); code != 200 {
		t.Fatalf("%s: %d %s", command, code, body)
	}
}

func (f folder) PinnedByUser(t *testing.T, n conformance.Node, c cid.Cid) api.PinMode {
	t.Helper()
	present, err := lookup(t.Context(), n.(*Node).open.core.Pinning, c)
	if err != nil {
		t.Fatal(err)
	}
	if name, ok := present[c][pinner.Recursive]; ok && name == "user" {
		return api.ModeRecursive
	}
	if name, ok := present[c][pinner.Direct]; ok && name == "user" {
		return api.ModeDirect
	}
	return ""
}

// Damage writes other bytes in the block's place, past all that checks, and reads.
func (f folder) Damage(t *testing.T, n conformance.Node, c cid.Cid) {
	t.Helper()
	o := n.(*Node).open
	bare := o.core.Repo.Datastore().(*guardedStore).Datastore
	if err := bare.Put(t.Context(), blockKey(c), []byte("other bytes")); err != nil {
		t.Fatal(err)
	}
	if b, err := o.core.Blockstore.Get(t.Context(), c); err == nil {
		t.Fatalf("a damaged block was read as %d bytes", len(b.RawData()))
	}
}

func (f folder) Wipe(t *testing.T) {
	t.Helper()
	if err := os.RemoveAll(f.dir); err != nil {
		t.Fatal(err)
	}
}

// flatfsMatters are the tests to repeat on flatfs, which syncs every block.
var flatfsMatters = regexp.MustCompile("a_tree|full|survive|collection|damaged|repository")

func TestConformance(t *testing.T) {
	for _, kind := range []BlockStore{BlocksPebble, BlocksFlatfs} {
		t.Run(string(kind), func(t *testing.T) {
			conformance.Suite(t, func(t *testing.T) conformance.Store { return folder{t.TempDir(), kind} },
				func(t *testing.T, test func(*testing.T)) {
					if kind == BlocksFlatfs && !flatfsMatters.MatchString(t.Name()) {
						t.Skip("the block store makes no difference")
					}
					test(t)
				})
		})
	}
}
