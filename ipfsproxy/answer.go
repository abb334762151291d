package ipfsproxy

import (
	"encoding/json"
	"io"
	"net/http"
	"sync/atomic"

	"holdfast/api"
)

// streamError is the trailer that tells of an error after the first output.
const streamError = "X-Stream-Error"

// exposed are the headers that Kubo lets scripts see.
const exposed = "X-Stream-Output, X-Chunked-Output, X-Content-Length"

// value is an output of a command: its JSON is Kubo's, and so is its text,
// which ends in a newline or is empty.
type value interface{ text() string }

// answer frames outputs as Kubo does. It is used by one goroutine at a time.
type answer struct {
	w       http.ResponseWriter
	text    bool // encoding=text
	body    *watched
	started bool
}

// emit sends one of several outputs, at once.
func (a *answer) emit(v value) error {
	if err := a.add(v); err != nil {
		return err
	}
	_ = http.NewResponseController(a.w).Flush() // a recorder cannot flush
	return nil
}

// add writes one of many outputs, which leave when there are enough of them.
func (a *answer) add(v value) error {
	a.begin(true)
	return a.encode(v)
}

// once sends the only output.
func (a *answer) once(v value) error {
	a.begin(false)
	return a.encode(v)
}

func (a *answer) encode(v value) error {
	if a.text {
		_, err := io.WriteString(a.w, v.text())
		return err
	}
	return json.NewEncoder(a.w).Encode(v)
}

// begin sends the headers of a success.
func (a *answer) begin(chunked bool) {
	if a.started {
		return
	}
	a.headers()
	if chunked {
		a.w.Header().Set("X-Chunked-Output", "1")
	}
	a.w.WriteHeader(http.StatusOK)
}

func (a *answer) headers() {
	a.started = true
	h := a.w.Header()
	h.Set("Access-Control-Allow-Headers", exposed)
	h.Set("Access-Control-Expose-Headers", exposed)
	h.Set("Trailer", streamError)
	if a.text {
		h.Set("Content-Type", "text/plain")
	} else {
		h.Set("Content-Type", "application/json")
	}
	if a.body != nil && !a.body.ended.Load() {
		// The server would read the rest of the upload before it lets the first
		// output go; it does not when the connection is to close.
		h.Set("Connection", "close")
	}
}

// finish ends a command that succeeded.
func (a *answer) finish() { a.begin(true) }

// failure is the JSON of an error.
type failure struct {
	Message string
	Code    int
	Type    string
}

// Codes of failures.
const (
	codeNormal = 0
	codeClient = 1 // the request cannot succeed as it is
)

// fail tells of an error: as the answer, or after outputs as a trailer.
func (a *answer) fail(err error) {
	if a.started {
		a.w.Header().Set(streamError, err.Error())
		return
	}
	a.headers()
	f := failure{Message: err.Error(), Code: codeNormal, Type: "error"}
	status := http.StatusInternalServerError
	if api.CodeOf(err) == api.CodeUnsupported {
		f.Code, status = codeClient, http.StatusBadRequest
	}
	a.w.WriteHeader(status)
	if a.text {
		_, _ = io.WriteString(a.w, f.Message) // nobody is left to tell
		return
	}
	_ = json.NewEncoder(a.w).Encode(f)
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
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}
