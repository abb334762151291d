package ipfsproxy

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"

	"holdfast/internal/kuborpc"
	"holdfast/internal/spool"
)

// outlet is where an answer leaves, the cluster's or the node's. A client must
// never take a part of an answer for the whole: many drop trailers, and
// HTTP/1.0 has none and ends a body by closing the connection.
type outlet struct {
	http.ResponseWriter
	r      *http.Request
	body   *watched
	held   *spool.Spool // of a client with HTTP/1.0, until the end is known; nil: nothing is held
	status int
}

// heldMost is how much of an answer waits for its end: what is longer goes as it
// comes, and an error cuts it off.
const heldMost = 64 << 20

func newOutlet(w http.ResponseWriter, r *http.Request, spools *spool.Store) *outlet {
	o := &outlet{ResponseWriter: w, r: r, body: watch(r)}
	if r.ProtoMajor == 1 && r.ProtoMinor == 0 {
		o.held = spools.New()
	}
	return o
}

// Unwrap lets http.ResponseController find the connection.
func (o *outlet) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// WriteHeader keeps the status of an answer that is held.
func (o *outlet) WriteHeader(status int) {
	if o.status != 0 {
		return
	}
	o.status = status
	if o.held == nil {
		o.ResponseWriter.WriteHeader(o.status)
	}
}

func (o *outlet) Write(p []byte) (int, error) {
	o.WriteHeader(http.StatusOK)
	if o.held != nil {
		if o.held.Len()+int64(len(p)) <= heldMost {
			if n, err := o.held.Write(p); err == nil {
				return n, nil
			}
		}
		// It is long, or there is no room for it just now: it goes as it comes.
		if err := o.release(); err != nil {
			return 0, err
		}
	}
	return o.ResponseWriter.Write(p)
}

// release lets go what is held.
func (o *outlet) release() error {
	held := o.held
	o.held = nil
	defer held.Close()
	o.ResponseWriter.WriteHeader(o.status)
	held.End()
	_, err := io.Copy(o.ResponseWriter, held)
	return err
}

// Flush sends what is not held. Kubo looks for this method.
func (o *outlet) Flush() {
	if o.held == nil {
		o.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(o.ResponseWriter).Flush() // a recorder cannot
	}
}

// end finishes an answer: one that failed after its beginning, which the
// trailer tells, is cut off.
func (o *outlet) end() {
	failed := o.Header().Get(streamError)
	switch {
	case o.held == nil:
	case failed == "":
		if o.status != 0 && o.release() != nil {
			o.cut() // it is cut short, and must look so (INV-END)
		}
	default: // nothing was sent yet, so the error has a status
		o.close()
		o.held = nil
		for _, name := range []string{streamError, "Trailer", "X-Chunked-Output", "X-Stream-Output", "X-Content-Length"} {
			o.Header().Del(name)
		}
		o.Header().Set("Content-Type", "application/json")
		o.status = http.StatusInternalServerError
		o.ResponseWriter.WriteHeader(o.status)
		_ = json.NewEncoder(o.ResponseWriter).Encode(failure{Message: failed, Code: codeNormal, Type: "error"})
		failed = ""
	}
	if failed != "" && strings.HasPrefix(o.Header().Get("Content-Type"), "application/json") && o.Header().Get("X-Chunked-Output") != "" {
		// Kubo's clients know an error among outputs; others fail to decode it.
		_ = json.NewEncoder(o.ResponseWriter).Encode(failure{Message: failed, Code: codeNormal, Type: "error"})
	}
	if failed != "" {
		o.Flush()
		o.cut()
	}
}

// close forgets what is held.
func (o *outlet) close() { o.held.Close() }

// cut ends the connection so that the client does not take it for the end of
// the answer.
func (o *outlet) cut() {
	if o.r.ProtoMajor == 1 && o.r.ProtoMinor == 0 {
		if conn, _, err := http.NewResponseController(o.ResponseWriter).Hijack(); err == nil {
			if inner, ok := conn.(interface{ NetConn() net.Conn }); ok {
				conn = inner.NetConn()
			}
			if lingering, ok := conn.(interface{ SetLinger(sec int) error }); ok {
				_ = lingering.SetLinger(0) // a reset, not an end
			}
			_ = conn.Close()
		}
	}
	// Also where the connection is closed: nobody may flush or read it any more.
	panic(http.ErrAbortHandler)
}

// refuse answers what no command of the cluster or the node answers.
func (o *outlet) refuse(call kuborpc.Call, known bool) {
	if !known {
		kuborpc.NotFound(o)
		return
	}
	call.Refuse(o)
}

// watched is a request body that knows whether it was read to its end.
type watched struct {
	io.ReadCloser
	ended atomic.Bool
}

// watch replaces the body of a request; nil when there is none.
func watch(r *http.Request) *watched {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	body := &watched{ReadCloser: r.Body}
	r.Body = body
	return body
}

func (b *watched) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.ended.Store(true)
	}
	return n, err
}
