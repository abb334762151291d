package adder

import (
	"bytes"
	"crypto/sha256"

	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/verifcid"
	"github.com/ipfs/go-cid"
	"github.com/ipld/go-ipld-prime"
	_ "github.com/ipld/go-ipld-prime/codec/cbor" // registers the codec
	_ "github.com/ipld/go-ipld-prime/codec/dagcbor"
	_ "github.com/ipld/go-ipld-prime/codec/dagjson"
	_ "github.com/ipld/go-ipld-prime/codec/json"
	cidlink "github.com/ipld/go-ipld-prime/linking/cid"
	prime "github.com/ipld/go-ipld-prime/multicodec"
	"github.com/ipld/go-ipld-prime/traversal"
	"github.com/multiformats/go-multicodec"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// blockKey stands for a CID: half of a SHA-256 of its codec and multihash, so
// that a CAR of millions of blocks can be checked in little memory.
type blockKey [16]byte

// closure checks that every block that is linked from a stream of blocks is in
// the stream too, before or after the link.
type closure struct {
	seen    map[blockKey]struct{}
	missing map[blockKey]cid.Cid // linked, not seen yet
	memory  *share
}

func newClosure(memory *share) *closure {
	return &closure{seen: make(map[blockKey]struct{}), missing: make(map[blockKey]cid.Cid), memory: memory}
}

// see takes note of a block that was checked against its CID and returns the
// cumulative size that it tells of.
func (s *closure) see(c cid.Cid, data []byte) (uint64, error) {
	key := keyOf(c)
	links, size, err := s.decode(c, data)
	if err != nil {
		return 0, err
	}
	if _, again := s.seen[key]; again {
		return size, nil
	}
	if err := s.memory.take(bytesPerSeen); err != nil {
		return 0, err
	}
	if _, linked := s.missing[key]; linked {
		delete(s.missing, key)
		s.memory.give(bytesPerMissing)
	}
	s.seen[key] = struct{}{}
	for _, l := range links {
		if err := s.want(l); err != nil {
			return 0, err
		}
	}
	return size, nil
}

// decode is linksOf within the memory that there is: a block of many small
// things takes much more when it is decoded.
func (s *closure) decode(c cid.Cid, data []byte) ([]cid.Cid, uint64, error) {
	if c.Type() == cid.Raw {
		return linksOf(c, data)
	}
	if err := s.memory.take(len(data) * decodeFactor); err != nil {
		return nil, 0, err
	}
	defer s.memory.give(len(data) * decodeFactor)
	return linksOf(c, data)
}

// maxIdentity is how many bytes an identity CID may hold, as for Kubo. Each level
// of CIDs within CIDs is copied.
const maxIdentity = verifcid.DefaultMaxIdentityDigestSize

// want notes a link. The block of an identity CID is the CID itself, so its
// links are followed at once.
func (s *closure) want(c cid.Cid) error {
	if c.Prefix().MhType == multihash.IDENTITY {
		// Each level of identity CIDs is shorter than the one around it.
		decoded, err := multihash.Decode(c.Hash())
		if err != nil {
			return api.Errorf(api.CodeInvalid, "the CAR links to %s: %w", c, err)
		}
		if len(decoded.Digest) > maxIdentity {
			return api.Errorf(api.CodeInvalid, "the CAR links to a CID that holds %d bytes itself; at most %d are usual", len(decoded.Digest), maxIdentity)
		}
		links, _, err := s.decode(c, decoded.Digest)
		if err != nil {
			return err
		}
		for _, l := range links {
			if err := s.want(l); err != nil {
				return err
			}
		}
		return nil
	}
	key := keyOf(c)
	if _, ok := s.seen[key]; ok {
		return nil
	}
	if _, ok := s.missing[key]; ok {
		return nil
	}
	s.missing[key] = c
	return s.memory.take(bytesPerMissing)
}

// whole returns nil, or an error with code invalid that names a missing block.
func (s *closure) whole() error {
	for _, c := range s.missing {
		return api.Errorf(api.CodeInvalid, "the CAR is incomplete: block %s is linked and not in it (%d such blocks); nothing is pinned", c, len(s.missing))
	}
	return nil
}

func keyOf(c cid.Cid) blockKey {
	sum := sha256.Sum256(cid.NewCidV1(c.Type(), c.Hash()).Bytes())
	return blockKey(sum[:16])
}

// linksOf decodes a block and returns its links and its cumulative size.
func linksOf(c cid.Cid, data []byte) ([]cid.Cid, uint64, error) {
	own := uint64(len(data))
	switch c.Type() {
	case cid.Raw:
		return nil, own, nil
	case cid.DagProtobuf:
		node, err := merkledag.DecodeProtobuf(data)
		if err != nil {
			return nil, 0, api.Errorf(api.CodeInvalid, "block %s is not dag-pb: %w", c, err)
		}
		links := make([]cid.Cid, 0, len(node.Links()))
		for _, l := range node.Links() {
			links = append(links, l.Cid)
			own += l.Size
		}
		return links, own, nil
	}
	// The codecs are those that the process has, which a pin of the same root is
	// followed with.
	decode, err := prime.LookupDecoder(c.Type())
	if err != nil {
		return nil, 0, api.Errorf(api.CodeInvalid, "block %s has codec %s (0x%x), which cannot be decoded, so what it links to is unknown", c, multicodec.Code(c.Type()), c.Type())
	}
	links, err := primeLinks(c, data, decode)
	return links, own, err
}

func primeLinks(c cid.Cid, data []byte, decode ipld.Decoder) ([]cid.Cid, error) {
	node, err := ipld.DecodeStreaming(bytes.NewReader(data), decode)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "block %s cannot be decoded: %w", c, err)
	}
	found, err := traversal.SelectLinks(node)
	if err != nil {
		return nil, api.Errorf(api.CodeInvalid, "block %s: find its links: %w", c, err)
	}
	var links []cid.Cid
	for _, l := range found {
		if l, ok := l.(cidlink.Link); ok {
			links = append(links, l.Cid)
		}
	}
	return links, nil
}
