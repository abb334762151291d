package adder

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// carHeader is the header of a CAR of version 1.
func carHeader(roots ...cid.Cid) []byte {
	header := []byte{0xa2, 0x65, 'r', 'o', 'o', 't', 's', 0x80 | byte(len(roots))}
	for _, root := range roots {
		raw := append([]byte{0}, root.Bytes()...)
		header = append(header, 0xd8, 42, 0x58, byte(len(raw)))
		header = append(header, raw...)
	}
	header = append(header, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 1)
	return append(binary.AppendUvarint(nil, uint64(len(header))), header...)
}

func carSection(c cid.Cid, data []byte) []byte {
	out := binary.AppendUvarint(nil, uint64(c.ByteLen()+len(data)))
	return append(append(out, c.Bytes()...), data...)
}

func carOf(roots []cid.Cid, list ...blocks.Block) []byte {
	out := carHeader(roots...)
	for _, b := range list {
		out = append(out, carSection(b.Cid(), b.RawData())...)
	}
	return out
}

// carV2 wraps a CAR of version 1.
func carV2(inner []byte) []byte { return carV2At(51, inner) }

// carV2At says that the inner CAR begins at an offset, which is 51.
func carV2At(offset uint64, inner []byte) []byte {
	out := []byte{0x0a, 0xa1, 0x67, 'v', 'e', 'r', 's', 'i', 'o', 'n', 2}
	out = append(out, make([]byte, 16)...)
	for _, n := range []uint64{offset, uint64(len(inner)), 0} {
		out = binary.LittleEndian.AppendUint64(out, n)
	}
	return append(out, inner...)
}

// sample is a folder of two raw files.
func sample() (root, one, two blocks.Block) {
	a, b := merkledag.NewRawNode([]byte("one")), merkledag.NewRawNode([]byte("two"))
	dir := unixfs.EmptyDirNode()
	_ = dir.AddNodeLink("a", a) // cannot fail for a raw node
	_ = dir.AddNodeLink("b", b)
	return dir, a, b
}

func block(t testing.TB, codec, hash uint64, data []byte) blocks.Block {
	t.Helper()
	c, err := cid.Prefix{Version: 1, Codec: codec, MhType: hash, MhLength: -1}.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func cborLink(c cid.Cid) []byte {
	raw := append([]byte{0}, c.Bytes()...)
	return append([]byte{0x81, 0xd8, 42, 0x58, byte(len(raw))}, raw...)
}

func TestCAR(t *testing.T) {
	root, one, two := sample()
	roots := []cid.Cid{root.Cid()}
	cbor := block(t, cid.DagCBOR, multihash.SHA2_256, cborLink(one.Cid()))
	stuffed := block(t, cid.DagCBOR, multihash.SHA2_256, cborLink(block(t, cid.Raw, multihash.IDENTITY, make([]byte, 129)).Cid()))
	inline := block(t, cid.DagCBOR, multihash.SHA2_256, cborLink(block(t, cid.DagCBOR, multihash.IDENTITY, cborLink(two.Cid())).Cid()))
	big := block(t, cid.Raw, multihash.SHA2_256, make([]byte, MaxBlockBytes+1))
	md5 := block(t, cid.Raw, multihash.MD5, []byte("x"))
	unknown := block(t, cid.EthBlock, multihash.SHA2_256, []byte("x"))
	json := block(t, cid.DagJSON, multihash.SHA2_256, []byte(`[{"/":"`+one.Cid().String()+`"}]`))
	plainJSON := block(t, 0x0200, multihash.SHA2_256, []byte(`{"a":1}`))
	plainCBOR := block(t, 0x51, multihash.SHA2_256, []byte{0x81, 0x01})
	deep := block(t, cid.DagCBOR, multihash.SHA2_256, append(bytes.Repeat([]byte{0x81}, 1<<20), 0xf6))
	lie, err := blocks.NewBlockWithCid([]byte("not one"), one.Cid())
	if err != nil {
		t.Fatal(err)
	}
	whole := carOf(roots, root, one, two)
	for _, c := range []struct {
		name string
		car  []byte
		code api.Code
		says string
	}{
		{"complete", whole, "", ""},
		{"leaves first", carOf(roots, two, one, root), "", ""},
		{"blocks twice", carOf(roots, root, one, one, two, root), "", ""},
		{"version 2", carV2(whole), "", ""},
		{"of dag-cbor", carOf([]cid.Cid{cbor.Cid()}, cbor, one), "", ""},
		{"links in an identity CID", carOf([]cid.Cid{inline.Cid()}, inline, two), "", ""},
		{"an identity CID that holds too much", carOf([]cid.Cid{stuffed.Cid()}, stuffed), api.CodeInvalid, "holds 129 bytes"},
		{"missing behind an identity CID", carOf([]cid.Cid{inline.Cid()}, inline), api.CodeInvalid, two.Cid().String()},
		{"with a block that nothing links", carOf(roots, root, one, two, cbor), "", ""},
		{"incomplete", carOf(roots, root, one), api.CodeInvalid, two.Cid().String()},
		{"without its root", carOf(roots, one, two), api.CodeInvalid, root.Cid().String()},
		{"header only", carOf(roots), api.CodeInvalid, root.Cid().String()},
		{"of another codec than the link", carOf(roots, root, one, block(t, cid.DagCBOR, multihash.SHA2_256, []byte{0x80})), api.CodeInvalid, two.Cid().String()},
		{"no root", carOf(nil, one), api.CodeInvalid, "0 roots"},
		{"two roots", carOf([]cid.Cid{one.Cid(), two.Cid()}, one, two), api.CodeInvalid, "2 roots"},
		{"corrupt", carOf(roots, root, lie, two), api.CodeInvalid, "integrity"},
		{"cut off", whole[:len(whole)-2], api.CodeInvalid, ""},
		{"not a CAR", []byte("hello, this is no CAR"), api.CodeInvalid, "header"},
		{"empty", nil, api.CodeInvalid, "header"},
		{"with a block over the limit", carOf([]cid.Cid{big.Cid()}, big), api.CodeTooLarge, "2097152"},
		{"with a section over the limit", append(carHeader(one.Cid()), binary.AppendUvarint(nil, 1<<62)...), api.CodeInvalid, ""},
		{"with a header over the limit", binary.AppendUvarint(nil, 1<<62), api.CodeInvalid, ""},
		{"of version 2 with its data past the end", carV2At(1<<62, whole), api.CodeInvalid, "header"},
		{"of version 2 with its data before the start", carV2At(1<<63+7, whole), api.CodeInvalid, "header"},
		{"of an unsafe hash", carOf([]cid.Cid{md5.Cid()}, md5), api.CodeInvalid, "insecure"},
		{"of dag-json", carOf([]cid.Cid{json.Cid()}, json, one), "", ""},
		{"of dag-json, incomplete", carOf([]cid.Cid{json.Cid()}, json), api.CodeInvalid, one.Cid().String()},
		{"of json", carOf([]cid.Cid{plainJSON.Cid()}, plainJSON), "", ""},
		{"of cbor", carOf([]cid.Cid{plainCBOR.Cid()}, plainCBOR), "", ""},
		{"of an unknown codec", carOf([]cid.Cid{unknown.Cid()}, unknown), api.CodeInvalid, "codec"},
		{"of a million levels", carOf([]cid.Cid{deep.Cid()}, deep), api.CodeInvalid, "depth"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(1, first)
			params := api.NewAddParams()
			params.Format = "car"
			out, err := w.added(t.Context(), Config{}, parts(t, part{"x.car", bytes.NewReader(c.car)}), params)
			if api.CodeOf(err) != c.code || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want code %q and %q", err, c.code, c.says)
			}
			if c.code != "" {
				if len(w.pins) != 0 {
					t.Errorf("pinned %+v", w.pins)
				}
				return
			}
			if len(out) != 1 || len(w.pins) != 1 || w.pins[0].Cid != out[0].Cid || out[0].Name != "x.car" || out[0].Bytes == 0 || out[0].Size == 0 {
				t.Errorf("outputs %+v, pins %+v", out, w.pins)
			}
		})
	}
}

func TestOneCAROnly(t *testing.T) {
	root, one, two := sample()
	whole := carOf([]cid.Cid{root.Cid()}, root, one, two)
	params := api.NewAddParams()
	params.Format = "car"
	for name, up := range map[string][]part{
		"none": nil,
		"two":  {{"a", bytes.NewReader(whole)}, {"b", bytes.NewReader(whole)}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(1, first)
			if _, err := w.added(t.Context(), Config{}, parts(t, up...), params); api.CodeOf(err) != api.CodeInvalid || len(w.pins) != 0 {
				t.Error(err)
			}
		})
	}
}

// TestManyCARs adds CARs that are complete together, with three roots.
func TestManyCARs(t *testing.T) {
	root, one, two := sample()
	params := api.NewAddParams()
	params.Format, params.ManyRoots = "car", true
	w := newWorld(1, first)
	out, err := w.added(t.Context(), Config{}, parts(t,
		part{"a", bytes.NewReader(carOf([]cid.Cid{root.Cid(), one.Cid()}, root, one))},
		part{"b", bytes.NewReader(carOf([]cid.Cid{two.Cid(), root.Cid()}, two))},
		part{"c", bytes.NewReader(carOf(nil))}), params)
	if err != nil || len(out) != 4 || len(w.pins) != 3 || out[0].Blocks != 3 || out[0].Bytes == 0 {
		t.Errorf("%v, outputs %+v, pins %+v", err, out, w.pins)
	}
}

func FuzzCAR(f *testing.F) {
	root, one, two := sample()
	whole := carOf([]cid.Cid{root.Cid()}, root, one, two)
	f.Add(whole)
	f.Add(carV2(whole))
	f.Add(whole[:40])
	f.Add(carOf([]cid.Cid{one.Cid()}, block(f, cid.DagCBOR, multihash.SHA2_256, cborLink(one.Cid()))))
	f.Add(carOf([]cid.Cid{one.Cid()}, block(f, cid.DagJSON, multihash.SHA2_256, []byte(`{"/":"x"}`))))
	f.Fuzz(func(t *testing.T, data []byte) {
		params := api.NewAddParams()
		params.Format = "car"
		put := make(map[cid.Cid]bool)
		memory := &share{budget: &budget{limit: 64 << 20}}
		im := carImporter{plan: plan{params: params, car: true}, memory: memory, emit: func(api.AddedOutput) error { return nil },
			closure: newClosure(memory), byCid: make(map[cid.Cid]int),
			put: func(c cid.Cid, data []byte) error {
				if sum, err := c.Prefix().Sum(data); err != nil || !sum.Equals(c) {
					t.Errorf("%s does not hash its data", c)
				}
				put[c] = true
				return nil
			}}
		roots, err := im.run(parts(t, part{"x", bytes.NewReader(data)}))
		if err == nil && len(roots) != 1 {
			t.Errorf("%d roots", len(roots))
		}
		if err == nil && roots[0].Cid.Prefix().MhType != multihash.IDENTITY && !put[roots[0].Cid.Cid] {
			t.Error("the root was not put")
		}
		if err != nil && api.CodeOf(err) != api.CodeInvalid && api.CodeOf(err) != api.CodeTooLarge {
			t.Errorf("code of %v", err)
		}
	})
}
