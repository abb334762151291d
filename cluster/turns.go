package cluster

import (
	"context"
	"sync"

	"github.com/ipfs/go-cid"
)

// turns lets decisions about one pin be made one after the other: two at a time
// would only refuse one another in the log. Decisions about different pins do
// not wait for one another.
type turns struct {
	mu   sync.Mutex
	pins map[cid.Cid]*turn
}

// turn is one pin that decisions wait for.
type turn struct {
	users int           // who has it or waits for it
	free  chan struct{} // holds one value while nobody has it
}

// take waits until nobody else decides about a pin; done lets the next one in.
// The error is that of ctx.
func (t *turns) take(ctx context.Context, c cid.Cid) (done func(), err error) {
	t.mu.Lock()
	mine := t.pins[c]
	if mine == nil {
		if t.pins == nil {
			t.pins = map[cid.Cid]*turn{}
		}
		mine = &turn{free: make(chan struct{}, 1)}
		mine.free <- struct{}{}
		t.pins[c] = mine
	}
	mine.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(t.pins, c)
		}
	}
	select {
	case <-mine.free:
		return func() { mine.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, context.Cause(ctx)
	}
}
