package drain

import (
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// What is read, and thrown away, of a body whose request was answered before it
// came to its end. Clients that look for an answer stop long before; the bounds
// are for those that send everything first.
const (
	maxBytes = 1 << 30
	maxTime  = 30 * time.Second
	maxIdle  = 5 * time.Second // between two reads
)

// Handler answers requests with a body as next does, and lets next answer
// before it has read the body. Closing a connection on which something
// still comes resets it, and a reset takes away what the client has not read:
// so the rest of the body is read, within bounds, before the connection ends.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, nested := r.Body.(*body); nested || r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex() // HTTP/2 has no need of it
		b := &body{ReadCloser: r.Body, waits: r.Header.Get("Expect") != ""}
		own := *r
		own.Body = b
		returned := false
		defer func() { b.drain(control, returned) }()
		next.ServeHTTP(&closing{ResponseWriter: w, body: b}, &own)
		returned = true
	})
}

// body knows whether it was read to its end.
type body struct {
	io.ReadCloser
	ended atomic.Bool
	waits bool        // the client sends nothing before it is told to
	begun atomic.Bool // something was read, which tells it to
}

func (b *body) Read(p []byte) (int, error) {
	b.begun.Store(true)
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}

// Close does nothing: the server closes the body, and until then the rest may
// have to be read.
func (b *body) Close() error { return nil }

// drain reads the rest. flush: what was answered may still wait to be sent.
func (b *body) drain(control *http.ResponseController, flush bool) {
	if b.ended.Load() {
		return
	}
	if flush && control.Flush() != nil {
		return
	}
	if b.waits && !b.begun.Load() {
		return // it will see the answer and send nothing
	}
	last := time.Now().Add(maxTime)
	buf := make([]byte, 32<<10)
	for left := maxBytes; left > 0; {
		deadline := time.Now().Add(maxIdle)
		if deadline.After(last) {
			deadline = last
		}
		if time.Now().After(last) { // what is beneath may have deadlines of its own
			return
		}
		_ = control.SetReadDeadline(deadline)
		n, err := b.Read(buf)
		if err != nil {
			return
		}
		left -= n
	}
}

// closing ends the connection after an answer that came before the end of the
// body: net/http must not use such a connection again, it panics with "invalid
// concurrent Body.Read call".
type closing struct {
	http.ResponseWriter
	body  *body
	begun bool
}

func (c *closing) WriteHeader(status int) {
	if !c.begun && status >= http.StatusOK {
		c.begun = true
		if !c.body.ended.Load() {
			c.Header().Set("Connection", "close")
		}
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *closing) Write(data []byte) (int, error) {
	if !c.begun {
		c.WriteHeader(http.StatusOK)
	}
	return c.ResponseWriter.Write(data)
}

// Unwrap lets http.ResponseController reach what is beneath.
func (c *closing) Unwrap() http.ResponseWriter { return c.ResponseWriter }
