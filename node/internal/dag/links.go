package dag

import (
	"bytes"
	"fmt"
	"slices"

	_ "github.com/ceramicnetwork/go-dag-jose/dagjose" // registers the codec, as Kubo's plugin does
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	_ "github.com/ipfs/go-ipld-git" // likewise: git-raw
	dagpb "github.com/ipld/go-codec-dagpb"
	"github.com/ipld/go-ipld-prime/codec"
	_ "github.com/ipld/go-ipld-prime/codec/cbor" // registers the codec
	_ "github.com/ipld/go-ipld-prime/codec/dagcbor"
	_ "github.com/ipld/go-ipld-prime/codec/dagjson"
	_ "github.com/ipld/go-ipld-prime/codec/json"
	"github.com/ipld/go-ipld-prime/datamodel"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	prime "github.com/ipld/go-ipld-prime/multicodec"
	basicnode "github.com/ipld/go-ipld-prime/node/basic"
	"github.com/ipld/go-ipld-prime/traversal"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// CheckCodec says whether the links of such a CID's block can be found; if not
// the error is invalid. Kubo's garbage collection decodes with the same
// codecs; a DAG that it could not follow must never be pinned.
func CheckCodec(c cid.Cid) error {
	switch c.Prefix().Codec {
	case cid.Raw, cid.DagProtobuf:
		return nil
	}
	_, err := decoder(c)
	return err
}

func decoder(c cid.Cid) (codec.Decoder, error) {
	code := c.Prefix().Codec
	decode, err := prime.LookupDecoder(code)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "%s: blocks of codec %s (0x%x) cannot be decoded, so what they link to cannot be kept; pin it in mode direct to keep the one block",
			c, multicodec.Code(code), code)
	}
	return decode, nil
}

// Links returns what a block links to, in order. The error is invalid when the
// block is not what its codec says.
func Links(b blocks.Block) ([]cid.Cid, error) {
	switch b.Cid().Prefix().Codec {
	case cid.Raw:
		return nil, nil
	case cid.DagProtobuf:
		return protobufLinks(b)
	}
	decode, err := decoder(b.Cid())
	if err != nil {
		return nil, err
	}
	builder := basicnode.Prototype.Any.NewBuilder()
	if err := decode(builder, bytes.NewReader(b.RawData())); err != nil {
		return nil, api.Errorf(api.CodeInvalid, "decode block %s: %w", b.Cid(), err)
	}
	links, err := traversal.SelectLinks(builder.Build())
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "links of block %s: %w", b.Cid(), err)
	}
	out := make([]cid.Cid, 0, len(links))
	for _, l := range links {
		if out, err = appendLink(out, l); err != nil {
			return nil, fmt.Errorf("block %s: %w", b.Cid(), err)
		}
	}
	return out, nil
}

func protobufLinks(b blocks.Block) ([]cid.Cid, error) {
	builder := dagpb.Type.PBNode.NewBuilder()
	if err := dagpb.DecodeBytes(builder, b.RawData()); err != nil {
		return nil, api.Errorf(api.CodeInvalid, "decode block %s: %w", b.Cid(), err)
	}
	node := builder.Build().(dagpb.PBNode)
	out := make([]cid.Cid, 0, node.Links.Length())
	for it := node.Links.Iterator(); !it.Done(); {
		_, l := it.Next()
		var err error
		if out, err = appendLink(out, l.Hash.Link()); err != nil {
			return nil, fmt.Errorf("block %s: %w", b.Cid(), err)
		}
	}
	return out, nil
}

func appendLink(out []cid.Cid, l datamodel.Link) ([]cid.Cid, error) {
	link, ok := l.(cidlink.Link)
	if !ok {
		return nil, api.Errorf(api.CodeInvalid, "link %s is no CID", l)
	}
	return append(out, link.Cid), nil
}

// Key is what blocks are stored by: the same bytes under two codecs are one block.
func Key(c cid.Cid) string { return string(c.Hash()) }

// EmptyRaw is the CID of no bytes as a raw block, by SHA2-256.
var EmptyRaw = cid.NewCidV1(cid.Raw, multihash.Multihash("\x12\x20\xe3\xb0\xc4\x42\x98\xfc\x1c\x14\x9a\xfb\xf4\xc8\x99\x6f\xb9\x24\x27\xae\x41\xe4\x64\x9b\x93\x4c\xa4\x95\x99\x1b\x78\x52\xb8\x55"))

// Nothing says whether a CID, of whatever codec and hash, is that of no bytes at
// all. Such a block is in every store too: bitswap does not send it.
func Nothing(c cid.Cid) bool {
	sum, err := c.Prefix().Sum(nil)
	return err == nil && string(sum.Hash()) == string(c.Hash())
}

// Identity returns the block that an identity CID itself holds, if it is one:
// such a block is in every store.
func Identity(c cid.Cid) (blocks.Block, bool) {
	if c.Prefix().MhType != multihash.IDENTITY {
		return nil, false
	}
	hash, err := multihash.Decode(c.Hash())
	if err != nil {
		return nil, false
	}
	b, err := blocks.NewBlockWithCid(slices.Clone(hash.Digest), c)
	return b, err == nil
}
