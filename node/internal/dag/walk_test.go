package dag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// numbered is a CID that no block need have.
func numbered(codec uint64, n int) cid.Cid {
	digest := binary.BigEndian.AppendUint64(make([]byte, 24, 32), uint64(n))
	hash, err := multihash.Encode(digest, multihash.SHA2_256)
	if err != nil {
		panic(err)
	}
	return cid.NewCidV1(codec, hash)
}

// linking is a dag-pb block with these links, under a CID that it need not have.
func linking(c cid.Cid, links ...cid.Cid) blocks.Block {
	var data []byte
	for _, l := range links {
		data = append(data, 0x12, byte(2+l.ByteLen()), 0x0a, byte(l.ByteLen()))
		data = append(data, l.Bytes()...)
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		panic(err)
	}
	return b
}

// TestWalkMemory: whatever the shape of a DAG, what a walk remembers of it is
// bounded by bytes, which are counted here.
func TestWalkMemory(t *testing.T) {
	const perLink = 36 + 4
	newWalk := func() *Walk {
		w, err := NewWalk(numbered(cid.DagProtobuf, 0), true)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	take := func(w *Walk) cid.Cid {
		c, ok := w.Next()
		if !ok {
			t.Fatal("the walk has ended")
		}
		return c
	}
	t.Run("same block", func(t *testing.T) {
		w := newWalk()
		links := make([]cid.Cid, 1<<20)
		for i := range links {
			links[i] = numbered(cid.Raw, 1)
		}
		if err := w.Visit(linking(take(w), links...)); err != nil {
			t.Fatal(err)
		}
		if len(w.stack) != perLink || cap(w.stack) > 1<<10 {
			t.Errorf("%d bytes, room for %d", len(w.stack), cap(w.stack))
		}
	})
	t.Run("two blocks in turn", func(t *testing.T) {
		w := newWalk()
		links := make([]cid.Cid, 1<<20)
		for i := range links {
			links[i] = numbered(cid.DagProtobuf, 1+i%2)
		}
		if err := w.Visit(linking(take(w), links...)); err != nil {
			t.Fatal(err)
		}
		if len(w.stack) != len(links)*perLink || cap(w.stack) > 2*len(w.stack) {
			t.Errorf("%d bytes, room for %d", len(w.stack), cap(w.stack))
		}
		for range 2 {
			if err := w.Visit(linking(take(w))); err != nil {
				t.Fatal(err)
			}
		}
		if c, ok := w.Next(); ok {
			t.Errorf("%s is looked at again", c)
		}
	})
	t.Run("chain", func(t *testing.T) {
		w := newWalk()
		const depth = 100_000
		for i := range depth {
			if err := w.Visit(linking(take(w), numbered(cid.DagProtobuf, i+1), numbered(cid.Raw, i))); err != nil {
				t.Fatal(err)
			}
		}
		if len(w.stack) > (depth+1)*perLink || w.seen.Len() != depth {
			t.Errorf("%d bytes, %d blocks seen", len(w.stack), w.seen.Len())
		}
	})
	t.Run("a million blocks", func(t *testing.T) {
		w := newWalk()
		const width = 1000
		most := 0
		level := func(from int) []cid.Cid {
			out := make([]cid.Cid, width)
			for i := range out {
				out[i] = numbered(cid.DagProtobuf, from+i)
			}
			return out
		}
		visit := func(links ...cid.Cid) {
			if err := w.Visit(linking(take(w), links...)); err != nil {
				t.Fatal(err)
			}
			most = max(most, len(w.stack))
		}
		visit(level(1)...)
		for i := range width {
			visit(level(1_000_000 + i*width)...)
			for range width {
				visit()
			}
		}
		if _, ok := w.Next(); ok || most > 2*width*perLink || w.seen.Len() != 1+width+width*width {
			t.Errorf("at most %d bytes, %d blocks seen", most, w.seen.Len())
		}
	})
	t.Run("too many links", func(t *testing.T) {
		w := newWalk()
		w.stackLimit = 1 << 20
		var err error
		for i := 0; err == nil && i < 1000; i++ { // each node has the next one and a thousand others
			links := make([]cid.Cid, 1000)
			for j := range links {
				links[j] = numbered(cid.DagProtobuf, 1+i*1000+j)
			}
			err = w.Visit(linking(take(w), links...))
			if len(w.stack) > w.stackLimit+1000*perLink {
				t.Fatalf("%d bytes", len(w.stack))
			}
		}
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "more links") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("too many blocks", func(t *testing.T) {
		w := newWalk()
		w.seenLimit = 1000
		var err error
		visited := 0
		for ; err == nil && visited < 2000; visited++ {
			err = w.Visit(linking(take(w), numbered(cid.DagProtobuf, visited+1)))
		}
		if visited != 1001 || !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "more than 1000 blocks") {
			t.Errorf("after %d blocks: error %v", visited, err)
		}
	})
}

// TestSet: what differs in codec, hash or digest is another CID; the version is not looked at.
func TestSet(t *testing.T) {
	var s Set
	sum := func(codec, hash uint64, length int, text string) cid.Cid {
		c, err := cid.V1Builder{Codec: codec, MhType: hash, MhLength: length}.Sum([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	same := strings.Repeat("x", 32)
	inside := sum(cid.DagProtobuf, multihash.IDENTITY, -1, same)
	hash, err := multihash.Encode([]byte(same), multihash.SHA2_256)
	if err != nil {
		t.Fatal(err)
	}
	all := []cid.Cid{
		sum(cid.DagProtobuf, multihash.SHA2_256, -1, "a"), sum(cid.DagProtobuf, multihash.SHA2_256, -1, "b"),
		sum(cid.DagCBOR, multihash.SHA2_256, -1, "a"), sum(cid.DagProtobuf, multihash.SHA3_256, -1, "a"),
		sum(cid.DagProtobuf, multihash.SHA2_256, 20, "a"), sum(cid.DagProtobuf, multihash.SHA2_512, -1, "a"),
		inside, cid.NewCidV1(cid.DagProtobuf, hash), sum(cid.Raw, multihash.IDENTITY, -1, ""),
	}
	for _, c := range all {
		if !s.Visit(c) {
			t.Errorf("%s is said to be there", c)
		}
	}
	for _, c := range all {
		if s.Visit(c) {
			t.Errorf("%s is forgotten", c)
		}
	}
	if s.Visit(cid.NewCidV0(all[0].Hash())) || s.Len() != len(all) {
		t.Errorf("%d CIDs of %d", s.Len(), len(all))
	}
	var kept Set
	if kept.HasBlock(all[0]) || !kept.VisitBlock(all[0]) || !kept.HasBlock(all[2]) || kept.VisitBlock(all[2]) || kept.HasBlock(all[1]) {
		t.Error("a block is one under each codec")
	}
}

// TestNesting: no decoder of links follows nesting without end, whatever it is of.
func TestNesting(t *testing.T) {
	const size = 2 << 20
	half := func(open, inner, end string) []byte {
		n := size / (len(open) + len(end))
		return []byte(strings.Repeat(open, n) + inner + strings.Repeat(end, n))
	}
	wide := func(begin, one, end string) []byte {
		return []byte(begin + strings.Repeat(one, (size-len(begin)-len(end)-8)/len(one)) + end)
	}
	for _, test := range []struct {
		name  string
		codec uint64
		data  []byte
		good  bool
	}{
		{"arrays", cid.DagCBOR, half("\x81", "\x00", ""), false},
		{"arrays without length", cid.DagCBOR, half("\x9f", "\x00", "\xff"), false},
		{"maps", cid.DagCBOR, half("\xa1\x61a", "\x00", ""), false},
		{"unfinished arrays", cid.DagCBOR, half("\x81", "", ""), false},
		{"tags", cid.DagCBOR, half("\xd8\x2a", "\x00", ""), false},
		{"an array said to be endless", cid.DagCBOR, []byte("\x9b\x7f\xff\xff\xff\xff\xff\xff\xff"), false},
		{"bytes said to be endless", cid.DagCBOR, []byte("\x5b\x7f\xff\xff\xff\xff\xff\xff\xff"), false},
		{"arrays", 0x51, half("\x81", "\x00", ""), false},
		{"maps", 0x51, half("\xa1\x61a", "\x00", ""), false},
		{"arrays", cid.DagJSON, half("[", "", "]"), false},
		{"unfinished arrays", cid.DagJSON, half("[", "", ""), false},
		{"maps", cid.DagJSON, half(`{"a":`, "1", "}"), false},
		{"links in links", cid.DagJSON, half(`{"/":`, "1", "}"), false},
		{"bytes in bytes", cid.DagJSON, half(`{"/":{"bytes":`, "1", "}}"), false},
		{"a wide array", cid.DagJSON, wide("[1", ",1", "]"), true},
		{"arrays side by side", cid.DagJSON, wide("[[]", ",[]", "]"), true},
		{"a long number", cid.DagJSON, wide("[", "1", "]"), false},
		{"a long text", cid.DagJSON, wide(`["`, `\n`, `"]`), true},
		{"arrays", 0x0200, half("[", "", "]"), false},
		{"maps", 0x0200, half(`{"a":`, "1", "}"), false},
		{"messages", cid.DagProtobuf, half("\x12", "", ""), false},
	} {
		t.Run(fmt.Sprintf("%x %s", test.codec, test.name), func(t *testing.T) {
			links, err := Links(block(t, test.codec, test.data))
			if len(links) != 0 || test.good != (err == nil) || !test.good && !errors.Is(err, api.ErrInvalid) {
				t.Errorf("%d links, error %v", len(links), err)
			}
		})
	}
}
