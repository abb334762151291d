package pintracker

import (
	"sync"
	"time"
)

// clock is the tracker's time, in Unix nanoseconds. While the process lives it
// never goes back and never stands still, which the queues rely on: it follows
// the machine's clock forward, and where that is set back it goes on as time
// passes. So no wrong clock can put a retry off for longer than its delay.
type clock struct {
	wall func() time.Time

	mu   sync.Mutex
	last int64     // the last tick
	read time.Time // when that was
}

// tick returns the time.
func (c *clock) tick() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	passed := int64(1)
	if !c.read.IsZero() {
		passed = max(passed, int64(now.Sub(c.read)))
	}
	c.last, c.read = max(c.last+passed, c.wall().UnixNano()), now
	return c.last
}

// latest returns the last tick.
func (c *clock) latest() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}
