package cluster

import (
	"context"
	"sync"
	"time"

	"holdfast/api"
)

// confirmPause is the least time between two confirmations. Each is an entry of
// the log, and whoever asks for nonsense in a loop would fill it.
const confirmPause = 100 * time.Millisecond

// confirmations answer whether this peer still leads, and up to which index its
// pinset is sure to hold all that was acknowledged. Many questions share one
// entry of the log: the first that is begun after they came.
type confirmations struct {
	ask  func(context.Context) (uint64, error) // Log.ReadIndex
	turn chan struct{}                         // has room for the one who asks
	last time.Time                             // when the last was begun; under turn

	mu   sync.Mutex
	next *confirmation // not begun yet: whoever comes now waits for it
}

func newConfirmations(ask func(context.Context) (uint64, error)) *confirmations {
	return &confirmations{ask: ask, turn: make(chan struct{}, 1)}
}

type confirmation struct {
	done  chan struct{} // closed when the rest is known
	index uint64
	err   error
	off   bool // who asked for all gave up
}

// get returns an index as Log.ReadIndex does, of a question that was put to the
// log after this call. Errors: no_leader, unavailable.
func (c *confirmations) get(ctx context.Context) (uint64, error) {
	for ctx.Err() == nil {
		mine := c.join()
		select {
		case <-mine.done:
		case c.turn <- struct{}{}:
			c.run(ctx, mine)
			<-c.turn
		case <-ctx.Done():
		}
		select {
		case <-mine.done:
			if !mine.off {
				return mine.index, mine.err
			}
		default: // ctx ended before it was begun; others go on with it
		}
	}
	return 0, api.Errorf(api.CodeUnavailable, "waiting for a majority to confirm who leads ended, and nothing was logged: %w", context.Cause(ctx))
}

func (c *confirmations) join() *confirmation {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = &confirmation{done: make(chan struct{})}
	}
	return c.next
}

// run asks for all who have joined, unless that was done meanwhile. It is called
// by one at a time.
func (c *confirmations) run(ctx context.Context, mine *confirmation) {
	begun := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.next != mine
	}
	if begun() {
		return
	}
	if wait := confirmPause - time.Since(c.last); wait > 0 && !sleep(ctx, wait) {
		return
	}
	c.mu.Lock()
	c.next = nil
	c.mu.Unlock()
	c.last = time.Now()
	mine.index, mine.err = c.ask(ctx)
	mine.off = mine.err != nil && ctx.Err() != nil
	close(mine.done)
}
