package dag

import (
	"encoding/binary"
	"fmt"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// What a walk may remember. The content of a pin is chosen by others: chains of
// nodes with many links each would fill the memory of every peer that holds it.
const (
	// stackLimit is for the CIDs still to be looked at, of some 40 bytes each. It
	// is seven million links at once. (Growing takes up to 2.25 times as much for a moment.)
	stackLimit = 256 << 20
	// seenLimit is how many inner blocks one pin may have: with leaves of dag-pb
	// that is 4 TiB in chunks of 256 KiB, with raw ones the 174-fold of it.
	seenLimit = 16 << 20
)

// Walk is a traversal of a DAG whose blocks may be met in any order. It holds
// the CIDs still to be looked at (depth first, so that they stay few) and those
// of inner blocks that were seen. Raw leaves are not remembered, as they are
// nearly all of a DAG: one that is linked from several parents is looked at,
// and counted, each time.
type Walk struct {
	recursive bool
	stack     []byte // each CID's bytes, then their number in four
	seen      Set
	blocks    uint64
	bytes     uint64

	stackLimit, seenLimit int
}

// NewWalk begins at a root. Not recursive, it ends there too. The error is
// invalid when the root is undefined, or its links cannot be found.
func NewWalk(root cid.Cid, recursive bool) (*Walk, error) {
	if !root.Defined() {
		return nil, api.Errorf(api.CodeInvalid, "the CID of the pin is missing")
	}
	if _, err := cid.Cast(root.Bytes()); err != nil {
		return nil, api.Errorf(api.CodeInvalid, "the CID of the pin is none: %w", err)
	}
	if recursive {
		if err := CheckCodec(root); err != nil {
			return nil, err
		}
	}
	w := &Walk{recursive: recursive, stackLimit: stackLimit, seenLimit: seenLimit}
	w.push(root)
	return w, nil
}

func (w *Walk) push(c cid.Cid) {
	text := c.KeyString()
	w.stack = append(w.stack, text...)
	w.stack = binary.BigEndian.AppendUint32(w.stack, uint32(len(text)))
}

func (w *Walk) pop() cid.Cid {
	end := len(w.stack) - 4
	begin := end - int(binary.BigEndian.Uint32(w.stack[end:]))
	c, err := cid.Cast(w.stack[begin:end])
	if err != nil {
		panic(err) // it was a CID
	}
	w.stack = w.stack[:begin]
	return c
}

// Recursive says whether links are followed.
func (w *Walk) Recursive() bool { return w.recursive }

// Progress tells how many blocks were found present, and their bytes.
func (w *Walk) Progress() (blocks, bytes uint64) { return w.blocks, w.bytes }

// Next takes the CID to look at next; false when there is none now.
func (w *Walk) Next() (cid.Cid, bool) {
	for len(w.stack) > 0 {
		c := w.pop()
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

// Visit counts a block that is present and schedules what it links to. The error
// is invalid when its links cannot be known, or the DAG is beyond the limits.
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
		w.push(c)
	}
	switch {
	case len(w.stack) > w.stackLimit:
		return api.Errorf(api.CodeInvalid, "the DAG has more links side by side and below each other than %d MiB of CIDs; pin its parts one by one", w.stackLimit>>20)
	case w.seen.Len() > w.seenLimit:
		return api.Errorf(api.CodeInvalid, "the DAG has more than %d blocks with links; pin its parts one by one", w.seenLimit)
	}
	return nil
}
