package front

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"holdfast/api"
)

// Timeouts end what a client has left: a request that it does not go on to
// send, an answer that it does not go on to take. What computes for long, or
// has nothing to say for long, goes on.
type Timeouts struct {
	// Idle is how long a client may take nothing of an answer; 0: a minute.
	Idle time.Duration
	// Pause is how long a client may send nothing of a request's body while it is
	// waited for; 0: Idle.
	Pause time.Duration
	// Trickle is how long all waits for trickleBytes of a request may take
	// together; 0: ten times Idle, or twice Pause if that is more.
	Trickle time.Duration
	// Drain is how long the rest of a request is waited for that its handler did
	// not read; 0: ten seconds.
	Drain time.Duration
}

// trickleBytes is what a client must send in the time of Timeouts.Trickle.
const trickleBytes = 64 << 10

func (t Timeouts) orDefaults() Timeouts {
	if t.Idle <= 0 {
		t.Idle = time.Minute
	}
	if t.Pause <= 0 {
		t.Pause = t.Idle
	}
	if t.Trickle <= 0 {
		t.Trickle = max(10*t.Idle, 2*t.Pause)
	}
	if t.Drain <= 0 {
		t.Drain = 10 * time.Second
	}
	return t
}

// wrap returns a handler whose requests and answers end with an idle client.
// The writes of HTTP/1 have their deadlines in conn. The streams of HTTP/2 can
// each come to a halt while their connection does not, and so have their own.
func (t Timeouts) wrap(patient func(*http.Request) bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		streams := r.ProtoMajor >= 2
		hasBody := r.Body != nil && r.Body != http.NoBody
		if !streams && !hasBody {
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		b := &body{ReadCloser: r.Body, control: control, timeouts: t, patient: patient != nil && patient(r)}
		b.ended.Store(!hasBody)
		defer func() {
			if streams {
				_ = control.SetWriteDeadline(time.Now().Add(t.Idle)) // for what is not flushed yet
			} else if c := connOf(r); c != nil && !b.ended.Load() {
				_ = c.drain(time.Now().Add(t.Drain))
			}
		}()
		copied := r.WithContext(r.Context()) // the server looks at its own request's body afterwards
		if hasBody {
			copied.Body = b
		}
		next.ServeHTTP(&answer{ResponseWriter: w, control: control, body: b, streams: streams, timeouts: t}, copied)
	})
}

// body is a request's, whose reads end when nothing comes. The deadline is
// there only while something is waited for: behind the end of a body the server
// reads on, to see whether the client goes, and a deadline would look like that.
type body struct {
	io.ReadCloser
	control  *http.ResponseController
	timeouts Timeouts
	patient  bool
	ended    atomic.Bool // nothing more will come
	reading  atomic.Bool
	waited   time.Duration // for the present trickleBytes
	got      int           // of them
}

func (b *body) Read(p []byte) (int, error) {
	if b.patient || b.ended.Load() {
		n, err := b.ReadCloser.Read(p)
		if err != nil {
			b.ended.Store(true)
		}
		return n, err
	}
	b.reading.Store(true)
	begun := time.Now()
	_ = b.control.SetReadDeadline(begun.Add(min(b.timeouts.Pause, b.timeouts.Trickle-b.waited)))
	n, err := b.ReadCloser.Read(p)
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if !late {
		_ = b.control.SetReadDeadline(time.Time{})
	}
	b.reading.Store(false)
	b.waited += time.Since(begun)
	if b.got += n; b.got >= trickleBytes {
		b.waited, b.got = 0, 0
	} else if err == nil && b.waited >= b.timeouts.Trickle {
		err, late = os.ErrDeadlineExceeded, true
	}
	if late {
		err = api.Errorf(api.CodeInvalid, "the request was given up: its sender sent nothing, or next to nothing, for %s; let it send without such pauses, or set http.upload_pause (%s) higher",
			max(time.Since(begun), b.waited).Round(time.Second), b.timeouts.Pause)
	}
	// After a failure the rest is unknown, and the server still tries to read it.
	if errors.Is(err, io.EOF) {
		b.ended.Store(true)
	}
	return n, err
}

// answer is the way back to a client that may be gone.
type answer struct {
	http.ResponseWriter
	control  *http.ResponseController
	body     *body
	streams  bool // HTTP/2
	duplex   atomic.Bool
	timeouts Timeouts
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// EnableFullDuplex lets a handler write while it reads.
func (a *answer) EnableFullDuplex() error {
	err := a.control.EnableFullDuplex()
	a.duplex.Store(err == nil)
	return err
}

// Write sends in pieces, each of which must leave within the idle time.
func (a *answer) Write(p []byte) (int, error) {
	written := 0
	for {
		piece := p[written:min(len(p), written+writePiece)]
		stop := a.watch()
		n, err := a.ResponseWriter.Write(piece)
		stop()
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// FlushError sends what was written.
func (a *answer) FlushError() error {
	defer a.watch()()
	return a.control.Flush()
}

// Flush is FlushError for those who do not ask.
func (a *answer) Flush() { _ = a.FlushError() }

// watch sets the deadlines of one write and returns what ends them. With
// HTTP/1, and not in full duplex, the server reads the rest of the request
// before it answers.
func (a *answer) watch() (stop func()) {
	switch {
	case a.streams:
		_ = a.control.SetWriteDeadline(time.Now().Add(a.timeouts.Idle))
		return func() { _ = a.control.SetWriteDeadline(time.Time{}) }
	case !a.duplex.Load() && !a.body.ended.Load() && !a.body.reading.Load():
		_ = a.control.SetReadDeadline(time.Now().Add(a.timeouts.Drain))
		return func() { _ = a.control.SetReadDeadline(time.Time{}) }
	}
	return func() {}
}
