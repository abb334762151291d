package dag

import (
	"crypto/sha256"

	"github.com/ipfs/go-cid"
)

// Set remembers CIDs, in the 32 bytes of a digest each. With what a map of Go's
// takes for itself that is 45 to 92 bytes.
type Set struct {
	kinds map[kind]map[digest]struct{}
	count int
}

// kind is what CIDs of the same digest may differ in.
type kind struct {
	codec, hash uint64
	other       bool // of another length than 32 bytes: the hash of the multihash stands for it
}

type digest [sha256.Size]byte

// Visit adds a CID, of whatever version; false when it is there already.
func (s *Set) Visit(c cid.Cid) bool { return s.add(c, c.Type()) }

// VisitBlock adds a CID as blocks are stored by it, of whatever codec; false
// when it is there already.
func (s *Set) VisitBlock(c cid.Cid) bool { return s.add(c, cid.Raw) }

// HasBlock says whether a CID was added by VisitBlock.
func (s *Set) HasBlock(c cid.Cid) bool {
	k, d := entry(c, cid.Raw)
	_, ok := s.kinds[k][d]
	return ok
}

// Len is how many CIDs there are.
func (s *Set) Len() int { return s.count }

func (s *Set) add(c cid.Cid, codec uint64) bool {
	k, d := entry(c, codec)
	of, ok := s.kinds[k]
	if !ok {
		if s.kinds == nil {
			s.kinds = map[kind]map[digest]struct{}{}
		}
		of = map[digest]struct{}{}
		s.kinds[k] = of
	}
	before := len(of)
	of[d] = struct{}{}
	if len(of) == before {
		return false
	}
	s.count++
	return true
}

func entry(c cid.Cid, codec uint64) (kind, digest) {
	hash, p := c.Hash(), c.Prefix()
	if p.MhLength != sha256.Size || len(hash) < sha256.Size {
		return kind{codec: codec, other: true}, sha256.Sum256(hash)
	}
	return kind{codec: codec, hash: p.MhType}, digest(hash[len(hash)-sha256.Size:])
}
