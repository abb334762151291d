package state

// recentPins is how many of the pins changed last are kept in memory. It is some
// large entries: who follows the pinset reads what an entry changed right after
// it was applied.
const recentPins = 16_384

// recent holds the values of the pins that were written or removed last, as
// they are in the database. Values are never written again.
type recent struct {
	values map[string][]byte // by key; nil: the pin was removed
	order  []string          // the keys, from next on the oldest first
	next   int
}

func newRecent() recent { return recent{values: map[string][]byte{}} }

// put remembers a value. A key that is changed again keeps its place in the
// order, so it may go sooner than it need.
func (r *recent) put(key string, value []byte) {
	_, known := r.values[key]
	r.values[key] = value
	switch {
	case known:
	case len(r.order) < recentPins:
		r.order = append(r.order, key)
	default:
		delete(r.values, r.order[r.next])
		r.order[r.next] = key
		r.next = (r.next + 1) % recentPins
	}
}
