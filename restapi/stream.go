package restapi

import (
	"iter"
	"net/http"
	"sync"
	"time"

	"holdfast/api"
)

const (
	trailerError = "X-Stream-Error"      // text of what ended the stream early; always sent, empty when all went well
	trailerCode  = "X-Stream-Error-Code" // its api code

	// maxPending bounds the bytes that wait for a slow client.
	maxPending = 256 << 10
	// sendBytes are sent at once; fewer are when they waited for sendAfter.
	sendBytes = 32 << 10
	sendAfter = 2 * time.Millisecond
)

// stream answers with one JSON object per line: 204 when there are none, an
// error's own status when it comes first, and the trailers when it comes later.
func stream[T any](s *server, w http.ResponseWriter, r *http.Request, items iter.Seq2[T, error], encode func(*encoder, T)) {
	var out *lines
	defer func() { out.close() }()
	for item, err := range items {
		if err != nil {
			s.endStream(w, r, out, err)
			return
		}
		if out == nil {
			announceTrailers(w.Header())
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusOK)
				return
			}
			out = newLines(w)
		}
		if err := add(out, item, encode); err != nil {
			s.endStream(w, r, out, err)
			return
		}
	}
	s.endStream(w, r, out, nil)
}

func announceTrailers(h http.Header) {
	h.Add("Trailer", trailerError)
	h.Add("Trailer", trailerCode)
}

// endStream finishes a stream of which out (nil: nothing) was written.
func (s *server) endStream(w http.ResponseWriter, r *http.Request, out *lines, err error) {
	switch {
	case out == nil && err != nil:
		s.fail(w, r, err)
	case out == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		out.close()
		text, code := "", ""
		if e := api.AsError(err); e != nil {
			s.logFault(w, r, e)
			text, code = e.Message, string(e.Code)
		}
		w.Header().Set(trailerError, text)
		w.Header().Set(trailerCode, code)
	}
}

// lines sends JSON lines in a goroutine of its own while its user makes the
// next ones. A line leaves at once when nothing was sent for a moment, and
// together with others when many come: each sending costs as much as the making
// of several lines. The user must call close.
type lines struct {
	w       http.ResponseWriter
	encoder *encoder
	done    chan struct{}

	mu      sync.Mutex
	more    sync.Cond // pending grew, or closed
	room    sync.Cond // pending was taken, or failed
	pending []byte
	due     bool // what is pending has waited for long enough, however little it is
	closed  bool
	err     error // why sending failed
}

func newLines(w http.ResponseWriter) *lines {
	l := &lines{w: w, encoder: newEncoder(), done: make(chan struct{}), due: true}
	l.more.L, l.room.L = &l.mu, &l.mu
	go l.send() // close waits for it
	return l
}

// add encodes a value as the next line. It waits while the client is too slow,
// and returns an error when it is gone.
func add[T any](l *lines, value T, encode func(*encoder, T)) error {
	e := l.encoder
	e.buf = e.buf[:0]
	encode(e, value)
	if e.err != nil {
		return api.Errorf(api.CodeInternal, "encode the answer: %w", e.err)
	}
	e.buf = append(e.buf, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.pending) >= maxPending && l.err == nil {
		l.room.Wait()
	}
	if l.err != nil {
		return l.err
	}
	l.pending = append(l.pending, e.buf...)
	if l.ready() {
		l.more.Signal()
	}
	return nil
}

// ready says that there is something to send, or nothing more to wait for.
// Caller holds mu.
func (l *lines) ready() bool {
	return l.closed || len(l.pending) >= sendBytes || l.due && len(l.pending) > 0
}

// close returns when everything was sent. It may be called twice, and on nil.
func (l *lines) close() {
	if l == nil {
		return
	}
	l.mu.Lock()
	l.closed = true
	l.more.Signal()
	l.mu.Unlock()
	<-l.done
}

func (l *lines) send() {
	defer close(l.done)
	flusher := http.NewResponseController(l.w)
	timer := time.AfterFunc(sendAfter, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.due = true
		l.more.Signal()
	})
	defer timer.Stop()
	var taken []byte
	for {
		l.mu.Lock()
		for !l.ready() {
			l.more.Wait()
		}
		if len(l.pending) == 0 {
			l.mu.Unlock()
			return
		}
		taken, l.pending = l.pending, taken[:0]
		l.due = false
		l.room.Signal()
		l.mu.Unlock()

		_, err := l.w.Write(taken)
		if err == nil {
			err = flusher.Flush()
		}
		if err != nil {
			l.mu.Lock()
			l.err, l.pending = err, nil
			l.room.Signal()
			l.mu.Unlock()
			return
		}
		timer.Reset(sendAfter)
	}
}
