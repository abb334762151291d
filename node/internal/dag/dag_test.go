package dag

import (
	"errors"
	"slices"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

func block(t testing.TB, codec uint64, data []byte) blocks.Block {
	t.Helper()
	c, err := cid.V1Builder{Codec: codec, MhType: multihash.SHA2_256}.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestLinks(t *testing.T) {
	leaf := block(t, cid.Raw, []byte("leaf"))
	json := []byte(`{"a":{"/":"` + leaf.Cid().String() + `"},"b":[{"/":"` + leaf.Cid().String() + `"}]}`)
	link := append([]byte{0xd8, 0x2a, 0x58, byte(1 + leaf.Cid().ByteLen()), 0}, leaf.Cid().Bytes()...)
	protobuf := append([]byte{0x12, byte(2 + leaf.Cid().ByteLen()), 0x0a, byte(leaf.Cid().ByteLen())}, leaf.Cid().Bytes()...)
	for _, test := range []struct {
		name  string
		block blocks.Block
		links int
		bad   bool
	}{
		{"raw", leaf, 0, false},
		{"dag-json", block(t, cid.DagJSON, json), 2, false},
		{"dag-cbor", block(t, cid.DagCBOR, append([]byte{0x81}, link...)), 1, false},
		{"dag-pb", block(t, cid.DagProtobuf, protobuf), 1, false},
		{"empty dag-pb", block(t, cid.DagProtobuf, nil), 0, false},
		{"json", block(t, 0x0200, json), 0, false},
		{"broken dag-json", block(t, cid.DagJSON, json[:len(json)-1]), 0, true},
		{"broken dag-cbor", block(t, cid.DagCBOR, link[:8]), 0, true},
		{"broken dag-pb", block(t, cid.DagProtobuf, []byte("nonsense")), 0, true},
		{"unknown codec", block(t, 0x90, nil), 0, true},
	} {
		links, err := Links(test.block)
		if test.bad != errors.Is(err, api.ErrInvalid) || (err != nil && !test.bad) {
			t.Errorf("%s: error %v", test.name, err)
		}
		if len(links) != test.links || slices.ContainsFunc(links, func(c cid.Cid) bool { return c != leaf.Cid() }) {
			t.Errorf("%s: links %v", test.name, links)
		}
	}
}

func TestIdentity(t *testing.T) {
	c, err := cid.V1Builder{Codec: cid.Raw, MhType: multihash.IDENTITY}.Sum([]byte("inside"))
	if err != nil {
		t.Fatal(err)
	}
	if b, ok := Identity(c); !ok || string(b.RawData()) != "inside" {
		t.Errorf("identity block %v, %v", b, ok)
	}
	if _, ok := Identity(block(t, cid.Raw, []byte("x")).Cid()); ok {
		t.Error("a hashed block is no identity")
	}
}

// FuzzLinks: whatever a block holds, it has links or is invalid.
func FuzzLinks(f *testing.F) {
	for _, codec := range []uint64{cid.DagProtobuf, cid.DagCBOR, cid.DagJSON} {
		f.Add(codec, []byte{})
		f.Add(codec, []byte(`{"/":"bafkqaaa"}`))
		f.Add(codec, []byte{0x12, 4, 0x0a, 2, 1, 2})
	}
	seedCodecs(f)
	f.Fuzz(func(t *testing.T, codec uint64, data []byte) {
		b := block(t, codec&0xffffff, data)
		w, err := NewWalk(b.Cid(), true)
		if err != nil {
			if !errors.Is(err, api.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		if err := w.Visit(b); err != nil && !errors.Is(err, api.ErrInvalid) {
			t.Fatal(err)
		}
	})
}
