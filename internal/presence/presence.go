package presence

import (
	"hash/maphash"

	"github.com/greatroar/blobloom"
)

// Set is a Bloom filter of all keys of a store: it says of most keys that are
// not in the store that they are not, and of none that are. New keys are what is
// looked up most, and a store needs longest to find nothing.
//
// Whoever reads all keys fills it, between Begin and Complete; until then it
// knows nothing. Keys that are gone from the store stay in it until it is filled
// again. The zero Set knows nothing. It takes 14 to 28 bits a key, and must not
// be used by two goroutines at once, but for May.
type Set struct {
	seed   maphash.Seed
	layers []*blobloom.Filter // each twice as large as those before together
	room   uint64             // how many keys the last layer shall still take
	added  uint64
	whole  bool // every key of the store is in it
}

const (
	leastRoom = 1 << 16 // keys of the first layer, at least
	wrong     = 0.002   // part of the keys not in the store that a full layer does not know
)

// Begin forgets everything. The next are up to n keys or, if that was wrong, more.
func (s *Set) Begin(n uint64) {
	*s = Set{seed: maphash.MakeSeed()}
	s.grow(max(n+n/8, leastRoom))
}

func (s *Set) grow(room uint64) {
	s.room = room
	s.layers = append(s.layers, blobloom.NewOptimized(blobloom.Config{Capacity: room, FPRate: wrong}))
}

// Complete says that since Begin each key of the store was added.
func (s *Set) Complete() { s.whole = true }

// Forget makes it know nothing, and frees its memory.
func (s *Set) Forget() { *s = Set{} }

// Add remembers a key that the store has or is about to get.
func (s *Set) Add(key string) {
	if len(s.layers) == 0 || s.within(key) {
		return
	}
	if s.room == 0 {
		s.grow(2 * s.added)
	}
	s.layers[len(s.layers)-1].Add(maphash.String(s.seed, key))
	s.room--
	s.added++
}

// May says whether the store may have a key; false is certain.
func (s *Set) May(key string) bool { return !s.whole || s.within(key) }

func (s *Set) within(key string) bool {
	hash := maphash.String(s.seed, key)
	for _, layer := range s.layers {
		if layer.Has(hash) {
			return true
		}
	}
	return false
}

// Whole says whether it knows of every key of the store.
func (s *Set) Whole() bool { return s.whole }

// Stale says that so many of its keys are gone from the store, which has n, that
// it is worth its memory to fill it again.
func (s *Set) Stale(n uint64) bool { return s.whole && s.added > 4*max(n, leastRoom) }
