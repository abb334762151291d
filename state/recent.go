package state

// recentPins is how many of the pins changed last are kept in memory. It is some
// large entries: who follows the pinset reads what an entry changed right after
// it was applied.
const recentPins = 16_384

// recent holds the values of the pins that were written or removed last, as
// they are in the database. Values are never written again.
type recent struct {
	values map[string][]byte // by CID; nil: the pin was removed
	order  []string          // the CIDs, from next on the oldest first
	next   int
}

func newRecent() recent { return recent{values: map[string][]byte{}} }

// put remembers a value. A CID that is changed again keeps its place in the
// order, so it may go sooner than it need.
func (r *recent) put(cid string, value []byte) {
	_, known := r.values[cid]
	r.values[cid] = value
	switch {
	case known:
	case len(r.order) < recentPins:
		r.order = append(r.order, cid)
	default:
		delete(r.values, r.order[r.next])
		r.order[r.next] = cid
		r.next = (r.next + 1) % recentPins
	}
}
