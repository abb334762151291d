package allocator

import (
	"cmp"
	"hash/fnv"
	"math"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// score is weighted rendezvous hashing: with u a number in (0,1) that content
// and peer draw together, the peer with the largest w/-ln(u) is the one whose
// exponentially distributed arrival, at rate w, comes first. So each peer wins
// with probability w over the sum of all weights, and the scores of the others
// do not change when one comes or goes.
//
// Logarithms may differ in the last bit between processors. That is harmless:
// only the leader decides, and its decision travels in the log.
func score(key uint64, id peer.ID, weight uint64) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // never fails
	bits := mix(key ^ mix(h.Sum64()))
	u := (float64(bits>>11) + 0.5) / (1 << 53) // 53 bits, never 0 or 1
	return float64(weight) / -math.Log(u)
}

// contentKey is the part of the draw that a CID gives.
func contentKey(c cid.Cid) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.KeyString())) // never fails
	return mix(h.Sum64())
}

// mix spreads every bit of x over all bits of the result (the finalizer of
// SplitMix64). FNV alone leaves the high bits of similar inputs alike.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// byScore puts the highest score first; equal ones in the order of their IDs.
func byScore(a, b *option) int {
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.ID, b.ID))
}
