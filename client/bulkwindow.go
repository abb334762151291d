package client

import (
	"bytes"
	"io"
	"iter"
	"sync"

	"holdfast/api"
)

// How much may be sent ahead of its results: enough to keep a peer busy, little
// enough to be sent again.
const (
	bulkWindowLines = 8192
	bulkWindowBytes = 8 << 20
)

// bulkWindow holds the lines that have no result yet. One goroutine fills it,
// one connection at a time reads it, one goroutine takes the results.
type bulkWindow struct {
	mu      sync.Mutex
	changed sync.Cond
	lines   []bulkSent // oldest first
	size    int        // bytes of the lines
	full    bool       // no more lines will come
	stopped bool
	reader  *bulkBody // of the present connection
	next    int       // the place in lines that it reads next
}

// bulkSent is a line as it is sent.
type bulkSent struct {
	number int
	data   []byte     // with the blank lines before it, and its newline
	blanks int        // those lines
	err    *api.Error // what this side found wrong with it
}

func newBulkWindow() *bulkWindow {
	w := &bulkWindow{}
	w.changed.L = &w.mu
	return w
}

// fill puts the lines in as there is room.
func (w *bulkWindow) fill(lines iter.Seq[api.BulkLine]) {
	number := 0
	for line := range lines {
		blanks := 0
		if line.Line > number {
			if number > 0 {
				blanks = line.Line - number - 1
			}
			number = line.Line
		} else {
			number++
		}
		sent := bulkSent{number: number, blanks: blanks, err: line.Err}
		data := bytes.Repeat([]byte("\n"), blanks)
		encoded := data
		if line.Err == nil {
			var err error
			encoded, err = line.AppendJSON(data)
			sent.err = api.AsError(err)
		}
		if sent.err != nil {
			encoded = append(data, "{}"...) // the peer answers it in its place
		}
		sent.data = append(encoded, '\n')
		if !w.put(sent) {
			return
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.full = true
	w.changed.Broadcast()
}

func (w *bulkWindow) put(sent bulkSent) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.stopped && (len(w.lines) >= bulkWindowLines || w.size > bulkWindowBytes) {
		w.changed.Wait()
	}
	w.lines = append(w.lines, sent)
	w.size += len(sent.data)
	w.changed.Broadcast()
	return !w.stopped
}

// waits returns true once there is a line without a result, and false when
// there will be none any more.
func (w *bulkWindow) waits() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.lines) == 0 && !w.full && !w.stopped {
		w.changed.Wait()
	}
	return len(w.lines) > 0 && !w.stopped
}

// oldest is the line whose result comes next.
func (w *bulkWindow) oldest() (bulkSent, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next == 0 {
		return bulkSent{}, false // nothing was sent
	}
	return w.lines[0], true
}

// acknowledge forgets the oldest line.
func (w *bulkWindow) acknowledge() {
	w.mu.Lock()
	defer w.mu.Unlock()
	wasFull := len(w.lines) >= bulkWindowLines || w.size > bulkWindowBytes
	w.size -= len(w.lines[0].data)
	w.lines[0] = bulkSent{}
	w.lines = w.lines[1:]
	w.next--
	if wasFull || len(w.lines) == 0 {
		w.changed.Broadcast()
	}
}

// stop ends everything that waits.
func (w *bulkWindow) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.changed.Broadcast()
}

// open returns the lines without a result as the body of a new connection, and
// the number of the first. There must be one.
func (w *bulkWindow) open() (*bulkBody, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reader, w.next = &bulkBody{window: w}, 0
	return w.reader, w.lines[0].number
}

// bulkBody is the body of one connection.
type bulkBody struct {
	window *bulkWindow
	rest   []byte // of the line that was begun
	begun  bool
}

// Read waits for lines; it ends after the last, or when another body was opened.
func (b *bulkBody) Read(p []byte) (int, error) {
	w := b.window
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.reader == b && len(b.rest) == 0 && w.next >= len(w.lines) && !w.full && !w.stopped {
		w.changed.Wait()
	}
	if w.reader != b || w.stopped {
		return 0, io.ErrClosedPipe
	}
	n := 0
	for n < len(p) {
		if len(b.rest) == 0 {
			if w.next >= len(w.lines) {
				break
			}
			sent := w.lines[w.next]
			b.rest = sent.data
			if !b.begun { // the first line has its number in the request
				b.rest, b.begun = b.rest[sent.blanks:], true
			}
			w.next++
		}
		k := copy(p[n:], b.rest)
		n, b.rest = n+k, b.rest[k:]
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF // full, and all read
	}
	return n, nil
}

// Close ends a read that waits.
func (b *bulkBody) Close() error {
	b.window.mu.Lock()
	defer b.window.mu.Unlock()
	if b.window.reader == b {
		b.window.reader = nil
	}
	b.window.changed.Broadcast()
	return nil
}
