package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	pinner "github.com/ipfs/boxo/pinning/pinner"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// codedBlock is a block of some codec.
func codedBlock(t *testing.T, codec multicodec.Code, hash uint64, data []byte) blocks.Block {
	t.Helper()
	c, err := cid.V1Builder{Codec: uint64(codec), MhType: hash}.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCollectionFollowsCodecs has pins of the user's own, in every codec that
// Kubo decodes: what they link to is kept. (INV-PINNED)
func TestCollectionFollowsCodecs(t *testing.T) {
	leaf := rawBlock(t, []byte("leaf"))
	blob := codedBlock(t, multicodec.GitRaw, multihash.SHA1, []byte("blob 4\x00leaf"))
	entry := append([]byte("100644 file\x00"), blob.Cid().Hash()[2:]...)
	payload := leaf.Cid().Bytes()
	jose := append(append([]byte("\xa2\x67payload\x58"), byte(len(payload))), payload...)
	jose = append(jose, "\x6asignatures\x81\xa1\x69signature\x41\x00"...)
	ctx := testContext(t)
	n := start(t, testConfig(t))
	var kept []cid.Cid
	for _, test := range []struct {
		top   blocks.Block
		below []blocks.Block
	}{
		{codedBlock(t, multicodec.DagJose, multihash.SHA2_256, jose), []blocks.Block{leaf}},
		{codedBlock(t, multicodec.GitRaw, multihash.SHA1, append(fmt.Appendf(nil, "tree %d\x00", len(entry)), entry...)), []blocks.Block{blob}},
		{codedBlock(t, multicodec.Json, multihash.SHA2_256, []byte(`{"a":1}`)), nil},
		{codedBlock(t, multicodec.Cbor, multihash.SHA2_256, []byte("\xa1aa\x01")), nil},
	} {
		all := append(test.below, test.top)
		if err := n.PutBlocks(ctx, all); err != nil {
			t.Fatal(err)
		}
		if err := n.open.core.Pinning.PinWithMode(ctx, test.top.Cid(), pinner.Recursive, "mine"); err != nil {
			t.Fatal(err)
		}
		for _, b := range all {
			kept = append(kept, b.Cid())
		}
	}
	if err := n.GC(ctx, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range kept {
		if _, err := n.open.read(ctx, c); err != nil {
			t.Errorf("%s of codec %s: %v", c, multicodec.Code(c.Type()), err)
		}
	}
}

// TestCollectionOfUnknownCodec: below a block that nobody here can decode may be
// anything. Where the user has pinned it nothing is removed; where the cluster
// wants it, which can never be fulfilled, it holds nobody up. (INV-PINNED)
func TestCollectionOfUnknownCodec(t *testing.T) {
	unknown := codedBlock(t, multicodec.EthBlock, multihash.SHA2_256, []byte("of another world"))
	top := protobufBlock(t, unknown.Cid())
	below := rawBlock(t, []byte("may be what it links to"))
	for _, root := range []blocks.Block{unknown, top} {
		ctx := testContext(t)
		c := testConfig(t)
		wanted := true
		c.Wanted = func(keep func(api.Pin) bool) error {
			if wanted {
				keep(dataPin(root.Cid()))
			}
			return nil
		}
		n := start(t, c)
		if err := n.PutBlocks(ctx, []blocks.Block{unknown, top, below}); err != nil {
			t.Fatal(err)
		}
		if err := n.Fetch(ctx, dataPin(root.Cid()), nil, nil); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("a pin of it: %v", err)
		}
		if err := n.open.core.Pinning.PinWithMode(ctx, root.Cid(), pinner.Recursive, "mine"); err != nil {
			t.Fatal(err)
		}
		removed := 0
		err := n.GC(ctx, func(api.RepoGCKey) { removed++ })
		if err == nil || removed > 0 || !strings.Contains(err.Error(), unknown.Cid().String()) || !strings.Contains(err.Error(), "eth-block") {
			t.Errorf("collection removed %d blocks and ended with %v", removed, err)
		}
		if err := n.open.core.Pinning.Unpin(ctx, root.Cid(), true); err != nil {
			t.Fatal(err)
		}
		for _, wanted = range []bool{true, false} {
			if err := n.GC(ctx, nil); err != nil {
				t.Errorf("wanted %v: %v", wanted, err)
			}
			if _, err := n.open.read(ctx, unknown.Cid()); (err == nil) != wanted {
				t.Errorf("wanted %v: %v", wanted, err)
			}
		}
	}
}

// TestStrictRootsFirst: a block that a pin needs, and something less does too, is
// looked at for the pin. Ours rests on a pin of the user's that is gone, and is
// fetched again, with a hole: what the hole hides is not known. (INV-PINNED)
func TestStrictRootsFirst(t *testing.T) {
	ctx := testContext(t)
	leaf := rawBlock(t, []byte("leaf"))
	hole := protobufBlock(t, leaf.Cid())
	top := protobufBlock(t, hole.Cid())
	c := testConfig(t)
	c.Wanted = func(keep func(api.Pin) bool) error { keep(dataPin(hole.Cid())); return nil }
	n := start(t, c)
	if err := n.PutBlocks(ctx, []blocks.Block{leaf, top}); err != nil {
		t.Fatal(err)
	}
	if err := n.open.core.Repo.Datastore().Put(ctx, lentKey(top.Cid()), []byte{recordRecursive}); err != nil {
		t.Fatal(err)
	}
	unprotect, err := n.protect(ctx, hole.Cid())
	if err != nil {
		t.Fatal(err)
	}
	defer unprotect(false)
	removed := 0
	if err := n.GC(ctx, func(api.RepoGCKey) { removed++ }); err == nil || removed > 0 {
		t.Errorf("collection removed %d blocks and ended with %v", removed, err)
	}
}
