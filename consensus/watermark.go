package consensus

import "sync"

// watermark is an index that only grows, with a way to wait for it.
type watermark struct {
	mu      sync.Mutex
	index   uint64
	changed chan struct{} // closed at the next advance
}

func newWatermark() *watermark { return &watermark{changed: make(chan struct{})} }

func (w *watermark) advance(index uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if index <= w.index {
		return
	}
	w.index = index
	close(w.changed)
	w.changed = make(chan struct{})
}

// reset goes back to 0, for who knows that nobody has asked yet.
func (w *watermark) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index = 0
}

// get returns the index, and a channel that is closed when it has grown.
func (w *watermark) get() (uint64, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.index, w.changed
}

// counter counts what is under way. Unlike a sync.WaitGroup it may grow from
// zero while somebody waits.
type counter struct {
	mu   sync.Mutex
	n    int
	zero chan struct{} // closed when n falls to 0; nil when nobody waits
}

func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

func (c *counter) done() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n--; c.n == 0 && c.zero != nil {
		close(c.zero)
		c.zero = nil
	}
}

// wait returns when the count is zero at some instant.
func (c *counter) wait() {
	c.mu.Lock()
	if c.n == 0 {
		c.mu.Unlock()
		return
	}
	if c.zero == nil {
		c.zero = make(chan struct{})
	}
	zero := c.zero
	c.mu.Unlock()
	<-zero
}
