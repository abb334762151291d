package pintracker

import (
	"maps"

	"holdfast/api"
)

// Stats tell how the tracker stands, and count what it has done since it was made.
type Stats struct {
	Pins     map[api.TrackerStatus]uint64 // of this peer, by status, also where there are none
	Parked   int                          // fetches that no block reaches now
	Pinned   uint64
	Unpinned uint64
	Failed   map[api.Code]uint64 // attempts to pin or unpin, by what came of them
}

// counters are behind Stats; Tracker.mu guards them.
type counters struct {
	pinned, unpinned uint64
	failed           map[api.Code]uint64
}

// ended counts an attempt by the record that it left.
func (c *counters) ended(rec record) {
	switch rec.status {
	case api.StatusPinned:
		c.pinned++
	case api.StatusUnpinned:
		c.unpinned++
	case api.StatusPinError, api.StatusUnpinError:
		c.failed[rec.code]++
	}
}

// Stats returns a picture of now, without disk access. What is counted as done
// also shows in the statuses: these are read later.
func (t *Tracker) Stats() Stats {
	t.mu.Lock()
	out := Stats{Pins: map[api.TrackerStatus]uint64{}, Parked: t.parked, Pinned: t.did.pinned, Unpinned: t.did.unpinned, Failed: maps.Clone(t.did.failed)}
	t.mu.Unlock()
	for _, status := range []api.TrackerStatus{api.StatusPinned, api.StatusPinning, api.StatusPinQueued, api.StatusPinError,
		api.StatusUnpinning, api.StatusUnpinQueued, api.StatusUnpinError} {
		out.Pins[status] = t.store.records(status)
	}
	return out
}
