package cluster

import (
	"math"
	"slices"
	"sync"
	"time"
)

// caughtUp is how far behind a learner may be and still get a vote: reports
// come every 2 s and tell of the past. A voter that is further behind would
// hold up every write that needs it, which is what the rounds of section 4.2.1
// of the Raft thesis are against.
const caughtUp = 5 * time.Second

// progressKept is how many samples of the own progress are kept: a balance
// interval apart they reach back a minute.
const progressKept = 120

// farBehind is a lag of nobody knows how long.
const farBehind = time.Duration(math.MaxInt64)

// progress remembers when this peer, as leader, had applied what, so that the
// lag of others can be told in time. Entries would say little: one holds a pin
// or a thousand.
type progress struct {
	mu      sync.Mutex
	samples []progressSample // the oldest first, indexes ascending
}

// progressSample is when an index was first seen to be applied.
type progressSample struct {
	index uint64
	at    time.Time
}

// begin forgets what an earlier leadership saw.
func (p *progress) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples = p.samples[:0]
}

// note takes a sample.
func (p *progress) note(index uint64, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.samples); n > 0 && p.samples[n-1].index >= index {
		return
	}
	if len(p.samples) == progressKept {
		p.samples = slices.Delete(p.samples, 0, 1)
	}
	p.samples = append(p.samples, progressSample{index: index, at: at})
}

// lag is for how long at least there has been something that a member which
// has applied index does not have; 0 if it has all, and farBehind if that was
// so before the first sample, or there is none.
func (p *progress) lag(index uint64, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	missing, _ := slices.BinarySearchFunc(p.samples, index+1, func(s progressSample, wanted uint64) int {
		switch {
		case s.index < wanted:
			return -1
		case s.index > wanted:
			return 1
		}
		return 0
	})
	switch {
	case len(p.samples) > 0 && missing == len(p.samples):
		return 0
	case missing == 0:
		return farBehind
	}
	return now.Sub(p.samples[missing].at)
}
