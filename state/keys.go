package state

import (
	"encoding/binary"
	"math"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The layout of the database. DESIGN.md explains it; formatVersion changes when
// an older program could no longer read what a newer one wrote.
const formatVersion uint32 = 1

// The first byte of a key says what it is.
const (
	prefixByMeta   = 'K' // hash of a metadata key and value (16), CID → nothing
	prefixByName   = 'N' // name, CID → nothing
	prefixByTime   = 'T' // unix seconds of the creation, CID → nothing
	prefixByPeer   = 'a' // peer number, CID → nothing
	prefixChange   = 'c' // log index → statepb.Changes
	prefixExpiry   = 'e' // unix seconds, CID → nothing
	prefixFormat   = 'f' // → formatVersion, 4 bytes
	prefixPeer     = 'i' // peer number → peer ID
	prefixCluster  = 'k' // → cluster ID
	prefixMeta     = 'm' // → statepb.Meta
	prefixPeerPins = 'n' // peer number → pins allocated to it, 8 bytes
	prefixPin      = 'p' // CID → statepb.Pin
	prefixRequests = 'q' // log index → the request ids that it brought, 16 bytes each
	prefixOutcomes = 'r' // log index → statepb.Outcomes, in the same order
	prefixToken    = 't' // hash → statepb.Token
	prefixMember   = 'u' // peer ID → statepb.Member
	prefixWanting  = 'w' // number of holders, CID → nothing: pins with fewer than their maximum
)

// everywhere is the peer number under which the pins of every peer are indexed.
const everywhere uint32 = 0

var (
	keyFormat  = []byte{prefixFormat}
	keyCluster = []byte{prefixCluster}
	keyMeta    = []byte{prefixMeta}
)

func pinKey(c []byte) []byte {
	return append([]byte{prefixPin}, c...)
}

func byPeerKey(number uint32, c []byte) []byte {
	key := make([]byte, 0, 5+len(c))
	key = append(key, prefixByPeer)
	key = binary.BigEndian.AppendUint32(key, number)
	return append(key, c...)
}

func peerKey(prefix byte, number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{prefix}, number)
}

func indexKey(prefix byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, n)
}

// appendSeconds orders by time, also before 1970: the sign bit is turned around.
func appendSeconds(key []byte, seconds int64) []byte {
	return binary.BigEndian.AppendUint64(key, uint64(seconds)^1<<63)
}

func expirySeconds(key []byte) int64 {
	return int64(binary.BigEndian.Uint64(key[1:9]) ^ 1<<63)
}

func tokenKey(hash [32]byte) []byte { return append([]byte{prefixToken}, hash[:]...) }

func memberKey(id peer.ID) []byte { return append([]byte{prefixMember}, id...) }

// after is the smallest key that is larger than all keys with the prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] != math.MaxUint8 {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

// startAfter is the lower bound of a listing below prefix that goes on after a
// CID; without one it is the prefix itself.
func startAfter(prefix []byte, last cid.Cid) []byte {
	if !last.Defined() {
		return prefix
	}
	key := append(append([]byte(nil), prefix...), last.Bytes()...)
	return append(key, 0)
}
