package adder

import (
	"sync"

	"github.com/dustin/go-humanize"

	"holdfast/api"
)

// What a thing that an add remembers takes in memory, its place in a map and
// its share of what collects garbage included, besides its name.
const (
	bytesPerSeen    = 64  // a block of a CAR
	bytesPerMissing = 128 // a link of a CAR whose block has not come yet, and its CID
	bytesPerEntry   = 320 // an entry of a folder, which may become part of a HAMT
	bytesPerRoot    = 512 // with its output and its pin
	bytesPerSent    = 96  // a CID that was sent a short while ago

	// decodeFactor is how much more memory than its block a decoded node takes.
	decodeFactor = 64
	// shareStep is how much an upload takes of the budget at a time.
	shareStep = 256 << 10

	// mostMemory is the budget of a process whose memory has no limit.
	mostMemory = 1 << 30
)

// defaultMemory is the budget where the process may take limit bytes: the rest
// is for the node, the pinset and all other requests.
func defaultMemory(limit int64) int64 { return min(mostMemory, limit/4) }

// budget is the memory that all uploads of a peer may take together.
type budget struct {
	limit int64

	mu   sync.Mutex
	used int64
}

func (b *budget) take(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit {
		return false
	}
	b.used += n
	return true
}

func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
}

// share is what one upload has of a budget. One goroutine uses it.
type share struct {
	budget *budget
	held   int64 // of the budget
	used   int64 // of what is held
}

// take notes that n more bytes are in use. The error is too_large when this
// upload alone is the reason that there is no room, else unavailable.
func (s *share) take(n int) error {
	s.used += int64(n)
	if s.used <= s.held {
		return nil
	}
	for _, more := range []int64{max(s.used-s.held, shareStep), s.used - s.held} {
		if s.budget.take(more) {
			s.held += more
			return nil
		}
	}
	limit := humanize.IBytes(uint64(s.budget.limit))
	need := s.used
	s.used -= int64(n)
	if need > s.budget.limit/2 {
		return api.Errorf(api.CodeTooLarge, "the upload has so many entries, links or blocks that it needs more memory than the %s that all uploads of this peer have together; nothing is pinned: add it in parts", limit)
	}
	return api.Errorf(api.CodeUnavailable, "the uploads of this peer take all of the %s of memory that they have together; nothing is pinned: try again later, or at another peer", limit)
}

// give notes that n bytes are not in use any more. Some stay with the upload,
// which will need them soon; the rest is for others.
func (s *share) give(n int) {
	s.used -= int64(n)
	if spare := s.held - s.used; spare > 2*shareStep {
		s.budget.give(spare - shareStep)
		s.held = s.used + shareStep
	}
}

// close gives everything back.
func (s *share) close() {
	s.budget.give(s.held)
	s.held, s.used = 0, 0
}
