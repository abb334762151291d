package heap

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// Peer is the room for a process of one peer, which uses some 40 MB, and 130 MB
// with ten million pins, much of which are filters without pointers.
const Peer = 64 << 20

const (
	// percentDefault is how much may be allocated between two collections, in
	// percent of what is in use, where nobody says otherwise.
	percentDefault = 100
	percentLeast   = 50 // however much is in use
	percentMost    = 2000
	percentStep    = 10 // setting it stops the world for a moment
)

// Room lets so many bytes be allocated between two garbage collections, or half of
// what is in use if that is more, from the next collection on. Go's own rule is as
// many bytes as are in use: for a small heap that is a collection several times a
// second when a peer is busy, and for a large one twice the memory. A memory limit
// (runtime/debug.SetMemoryLimit) holds as before.
//
// It is for a main function to call, once; stop ends it.
func Room(bytes uint64) (stop func()) {
	r := &room{bytes: bytes}
	r.watch()
	return r.stop
}

type room struct {
	bytes uint64

	mu      sync.Mutex
	stopped bool
	percent int // that is set; 0: none yet
}

// collected becomes garbage at once; that it is gone says that a collection has
// ended. It has a pointer, so that it shares its memory with nothing else.
type collected struct{ _ *room }

func (r *room) watch() {
	runtime.AddCleanup(&collected{}, func(r *room) { r.adjust() }, r)
}

// adjust sets what is allocated until the next collection.
func (r *room) adjust() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return
	}
	if percent := percentFor(inUse(), r.bytes); percent != r.percent {
		r.percent = percent
		debug.SetGCPercent(percent)
	}
	r.watch()
}

func (r *room) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	debug.SetGCPercent(percentDefault)
}

// percentFor is the percentage of what is in use that makes the room.
func percentFor(live, room uint64) int {
	percent := 100 * room / max(live, 1)
	return int(min(max(percent, percentLeast), percentMost) / percentStep * percentStep)
}

// inUse is what was found to be in use by the last collection.
func inUse() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}
