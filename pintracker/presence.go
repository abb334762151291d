package pintracker

import (
	"hash/maphash"

	"github.com/greatroar/blobloom"
)

// presence tells of most CIDs without a record that they have none, from
// memory: a Bloom filter of all records. A new pin is the most frequent thing
// that the tracker looks at, and the store needs longest to find nothing.
//
// Whoever reads all records anyway fills it, between begin and complete; until
// then it knows nothing. CIDs whose records are gone stay in it until it is
// filled again. It is guarded by Tracker.mu.
type presence struct {
	seed   maphash.Seed
	layers []*blobloom.Filter // each twice as large as those before together
	room   uint64             // how many CIDs the last layer shall still take
	added  uint64
	whole  bool // every record is in it
}

const (
	presenceRoom  = 1 << 16 // CIDs of the first layer, at least
	presenceWrong = 0.01    // part of the CIDs without a record that a full layer does not know
)

// begin forgets everything. The next are up to n records or, if that was wrong, more.
func (p *presence) begin(n uint64) {
	*p = presence{seed: maphash.MakeSeed()}
	p.grow(max(n+n/8, presenceRoom))
}

func (p *presence) grow(room uint64) {
	p.room = room
	p.layers = append(p.layers, blobloom.NewOptimized(blobloom.Config{Capacity: room, FPRate: presenceWrong}))
}

// complete says that since begin each record was added.
func (p *presence) complete() { p.whole = true }

// add remembers a CID that gets a record.
func (p *presence) add(key string) {
	if len(p.layers) == 0 || p.within(key) {
		return
	}
	if p.room == 0 {
		p.grow(2 * p.added)
	}
	p.layers[len(p.layers)-1].Add(maphash.String(p.seed, key))
	p.room--
	p.added++
}

// may says whether a CID may have a record; false is certain.
func (p *presence) may(key string) bool { return !p.whole || p.within(key) }

func (p *presence) within(key string) bool {
	hash := maphash.String(p.seed, key)
	for _, layer := range p.layers {
		if layer.Has(hash) {
			return true
		}
	}
	return false
}

// stale says that so many of the CIDs have no record any more, of which there
// are n, that it is worth its memory to fill it again.
func (p *presence) stale(n uint64) bool {
	return p.whole && p.added > 4*max(n, presenceRoom)
}
