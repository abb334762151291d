package conformance

import (
	"fmt"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	dagpb "github.com/ipld/go-codec-dagpb"
	"github.com/ipld/go-ipld-prime/datamodel"
	"github.com/ipld/go-ipld-prime/fluent/qp"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

func block(codec uint64, data []byte) blocks.Block {
	c, err := cid.V1Builder{Codec: codec, MhType: multihash.SHA2_256}.Sum(data)
	if err != nil {
		panic(err)
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		panic(err)
	}
	return b
}

func raw(format string, args ...any) blocks.Block {
	return block(cid.Raw, fmt.Appendf(nil, format, args...))
}

// inner is a dag-pb block with these links.
func inner(data string, links ...cid.Cid) blocks.Block {
	node, err := qp.BuildMap(dagpb.Type.PBNode, 2, func(m datamodel.MapAssembler) {
		qp.MapEntry(m, "Links", qp.List(int64(len(links)), func(l datamodel.ListAssembler) {
			for _, c := range links {
				qp.ListEntry(l, qp.Map(1, func(m datamodel.MapAssembler) {
					qp.MapEntry(m, "Hash", qp.Link(cidlink.Link{Cid: c}))
				}))
			}
		}))
		qp.MapEntry(m, "Data", qp.Bytes([]byte(data)))
	})
	if err != nil {
		panic(err)
	}
	encoded, err := dagpb.AppendEncode(nil, node)
	if err != nil {
		panic(err)
	}
	return block(cid.DagProtobuf, encoded)
}

// tree is a root over width inner blocks over width raw leaves each; parents
// come before what they link to.
func tree(name string, width int) (root cid.Cid, all []blocks.Block) {
	var tops []cid.Cid
	var below []blocks.Block
	for i := range width {
		var cids []cid.Cid
		var leaves []blocks.Block
		for j := range width {
			l := raw("%s: leaf %d.%d", name, i, j)
			cids, leaves = append(cids, l.Cid()), append(leaves, l)
		}
		top := inner(fmt.Sprintf("%s %d", name, i), cids...)
		tops, below = append(tops, top.Cid()), append(append(below, top), leaves...)
	}
	r := inner(name, tops...)
	return r.Cid(), append([]blocks.Block{r}, below...)
}

// chain is depth inner blocks, each linking to the next.
func chain(name string, depth int) (root cid.Cid, all []blocks.Block) {
	last := raw("%s: end", name)
	all = append(all, last)
	for i := range depth {
		last = inner(fmt.Sprintf("%s %d", name, i), last.Cid())
		all = append(all, last)
	}
	return last.Cid(), all
}

func recursive(c cid.Cid) api.Pin {
	return api.Pin{Cid: api.NewCid(c), PinOptions: api.PinOptions{Mode: api.ModeRecursive}}
}

func direct(c cid.Cid) api.Pin {
	return api.Pin{Cid: api.NewCid(c), PinOptions: api.PinOptions{Mode: api.ModeDirect}}
}
