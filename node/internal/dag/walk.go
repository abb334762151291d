package dag

import (
	"fmt"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// Walk is a traversal of a DAG whose blocks may be met in any order. It holds
// the CIDs still to be looked at (depth first, so that they stay few) and those
// of inner blocks that were seen. Raw leaves are not remembered, as they are
// nearly all of a DAG: one that is linked from several parents is looked at,
// and counted, each time.
type Walk struct {
	recursive bool
	stack     []cid.Cid
	seen      *cid.Set
	blocks    uint64
	bytes     uint64
}

// NewWalk begins at a root. Not recursive, it ends there too. The error is
// invalid when the root is undefined, or its links cannot be found.
func NewWalk(root cid.Cid, recursive bool) (*Walk, error) {
	if !root.Defined() {
		return nil, api.Errorf(api.CodeInvalid, "the CID of the pin is missing")
	}
	if recursive {
		if err := CheckCodec(root); err != nil {
			return nil, err
		}
	}
	return &Walk{recursive: recursive, stack: []cid.Cid{root}, seen: cid.NewSet()}, nil
}

// Recursive says whether links are followed.
func (w *Walk) Recursive() bool { return w.recursive }

// Progress tells how many blocks were found present, and their bytes.
func (w *Walk) Progress() (blocks, bytes uint64) { return w.blocks, w.bytes }

// Next takes the CID to look at next; false when there is none now.
func (w *Walk) Next() (cid.Cid, bool) {
	for len(w.stack) > 0 {
		c := w.stack[len(w.stack)-1]
		w.stack = w.stack[:len(w.stack)-1]
		if c.Prefix().Codec == cid.Raw || w.seen.Visit(c) {
			return c, true
		}
	}
	return cid.Undef, false
}

// NeedsContent says whether the block of c may have links to follow; if not,
// Leaf does for it.
func (w *Walk) NeedsContent(c cid.Cid) bool {
	return w.recursive && c.Prefix().Codec != cid.Raw
}

// Leaf counts a block that is present and whose content does not matter.
func (w *Walk) Leaf(size int) {
	w.blocks++
	w.bytes += uint64(size)
}

// Visit counts a block that is present and schedules what it links to.
func (w *Walk) Visit(b blocks.Block) error {
	w.Leaf(len(b.RawData()))
	if !w.NeedsContent(b.Cid()) {
		return nil
	}
	links, err := Links(b)
	if err != nil {
		return err
	}
	var previous cid.Cid
	for i := len(links) - 1; i >= 0; i-- { // the first link is looked at first
		c := links[i]
		if c == previous { // a run of equal blocks, as of zeroes
			continue
		}
		if err := CheckCodec(c); err != nil {
			return fmt.Errorf("link of %s: %w", b.Cid(), err)
		}
		previous = c
		w.stack = append(w.stack, c)
	}
	return nil
}
