package dag

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"
)

// made is a block of a codec.
func made(t testing.TB, codec multicodec.Code, hash uint64, data []byte) blocks.Block {
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

// jose is a signed dag-jose block about another block.
func jose(t testing.TB, of cid.Cid) blocks.Block {
	t.Helper()
	payload := of.Bytes()
	data := append([]byte{0xa2, 0x67}, "payload"...)
	data = append(append(data, 0x58, byte(len(payload))), payload...)
	data = append(append(data, 0x6a), "signatures"...)
	data = append(data, 0x81, 0xa1, 0x69)
	data = append(append(data, "signature"...), 0x41, 0x00)
	return made(t, multicodec.DagJose, multihash.SHA2_256, data)
}

// gitTree is a git-raw block with one file.
func gitTree(t testing.TB, of cid.Cid) blocks.Block {
	t.Helper()
	hash, err := multihash.Decode(of.Hash())
	if err != nil {
		t.Fatal(err)
	}
	entry := append([]byte("100644 file\x00"), hash.Digest...)
	return made(t, multicodec.GitRaw, multihash.SHA1, append(fmt.Appendf(nil, "tree %d\x00", len(entry)), entry...))
}

// TestCodecs has a block of every codec that Kubo decodes, and of one that nobody does.
func TestCodecs(t *testing.T) {
	leaf := made(t, multicodec.Raw, multihash.SHA2_256, []byte("leaf")).Cid()
	blob := made(t, multicodec.GitRaw, multihash.SHA1, []byte("blob 4\x00leaf"))
	cborLink := append([]byte{0xd8, 0x2a, 0x58, byte(leaf.ByteLen() + 1), 0}, leaf.Bytes()...)
	for _, test := range []struct {
		block blocks.Block
		links []cid.Cid
		known bool
	}{
		{jose(t, leaf), []cid.Cid{leaf}, true},
		{gitTree(t, blob.Cid()), []cid.Cid{blob.Cid()}, true},
		{blob, nil, true},
		{made(t, multicodec.DagCbor, multihash.SHA2_256, cborLink), []cid.Cid{leaf}, true},
		{made(t, multicodec.DagJson, multihash.SHA2_256, fmt.Appendf(nil, `{"/":%q}`, leaf)), []cid.Cid{leaf}, true},
		{made(t, multicodec.Json, multihash.SHA2_256, fmt.Appendf(nil, `{"/":%q}`, leaf)), nil, true}, // json has no links
		{made(t, multicodec.Cbor, multihash.SHA2_256, []byte{0xa1, 0x61, 'a', 0x01}), nil, true},
		{made(t, multicodec.EthBlock, multihash.SHA2_256, []byte("x")), nil, false},
	} {
		codec := multicodec.Code(test.block.Cid().Type())
		if err := CheckCodec(test.block.Cid()); (err == nil) != test.known {
			t.Errorf("%s is known: %v", codec, err)
		}
		links, err := Links(test.block)
		if (err == nil) != test.known || !slices.Equal(links, test.links) {
			t.Errorf("%s: links are %v, %v", codec, links, err)
		}
	}
}

// seedCodecs are for FuzzLinks.
func seedCodecs(f *testing.F) {
	leaf := made(f, multicodec.Raw, multihash.SHA2_256, []byte("leaf")).Cid()
	blob := made(f, multicodec.GitRaw, multihash.SHA1, []byte("blob 4\x00leaf"))
	for _, b := range []blocks.Block{jose(f, leaf), blob, gitTree(f, blob.Cid())} {
		f.Add(b.Cid().Type(), b.RawData())
	}
	sha := "0123456789012345678901234567890123456789"
	for _, text := range []string{
		"commit 9\x00tree " + sha + "\nparent " + sha + "\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nwhy\n",
		"commit 9\x00tree " + sha + "\nmergetag object " + sha + "\n type commit\n tag x\n tagger A <a@b> 1 +0000\n \n x\n\n",
		"commit 9\x00author\n", "commit 9\x00tree\n", "commit 9\x00encoding\n", "commit 9\x00gpgsig\n",
		"tag 9\x00object " + sha + "\ntype commit\ntag x\ntagger A <a@b> 1 +0000\n\nwhy\n", "tag 9\x00object\n", "tag 9\x00tagger\n", "tag 9\x00type\n",
		"blob 99999999999999\x00", "blob -1\x00", "tree -1\x00", "tree 5\x00100644 a\x00", "commit 0\x00", "tag 0\x00",
	} {
		f.Add(uint64(multicodec.GitRaw), []byte(text))
	}
	for _, code := range []multicodec.Code{multicodec.DagCbor, multicodec.DagJose, multicodec.Cbor} {
		f.Add(uint64(code), binary.BigEndian.AppendUint64([]byte{0x9b}, 1<<40))
		f.Add(uint64(code), []byte{0xa0})
		f.Add(uint64(code), []byte{0xf6})
	}
}
