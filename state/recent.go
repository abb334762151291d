package state

// recentPins is how many of the pins changed last are kept in memory. It is some
// large entries: who follows the pinset reads what an entry changed right after
// it was applied.
const recentPins = 16_384

// recentBytes bounds the memory of their values, of which one can take 20 KiB;
// common ones take some hundred bytes.
const recentBytes = 8 << 20

// recent holds the values of the pins that were written or removed last, as
// they are in the database. Values are never written again. What it holds is no
// part of the state: what it lacks is read from the database.
type recent struct {
	values map[string][]byte // by CID; nil: the pin was removed
	order  []string          // the CIDs, from next on the oldest first
	next   int
	bytes  int // of the values
}

func newRecent() recent { return recent{values: map[string][]byte{}} }

// put remembers a value. A CID that is changed again keeps its place in the
// order, so it may go sooner than it need.
func (r *recent) put(cid string, value []byte) {
	old, known := r.values[cid]
	r.bytes += len(value) - len(old)
	r.values[cid] = value
	switch {
	case known:
	case len(r.order) < recentPins:
		r.order = append(r.order, cid)
	default:
		r.forget(r.order[r.next])
		r.order[r.next] = cid
		r.next = (r.next + 1) % recentPins
	}
	if r.bytes > recentBytes {
		r.shrink()
	}
}

func (r *recent) forget(cid string) {
	r.bytes -= len(r.values[cid])
	delete(r.values, cid)
}

// shrink drops the older half. Half at once, so that it costs little per value.
func (r *recent) shrink() {
	kept := append(append([]string(nil), r.order[r.next:]...), r.order[:r.next]...)
	for r.bytes > recentBytes/2 {
		r.forget(kept[0])
		kept = kept[1:]
	}
	r.order, r.next = append(make([]string, 0, len(kept)), kept...), 0
}
