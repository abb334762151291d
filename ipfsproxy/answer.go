package ipfsproxy

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"holdfast/api"
	"holdfast/internal/spool"
)

// streamError is the trailer that tells of an error after the first output.
const streamError = "X-Stream-Error"

// exposed are the headers that Kubo lets scripts see.
const exposed = "X-Stream-Output, X-Chunked-Output, X-Content-Length"

// value is an output of a command: its JSON is Kubo's, and so is its text,
// which ends in a newline or is empty.
type value interface{ text() string }

// answer frames outputs as Kubo does. It is used by one goroutine at a time.
//
// What was not asked for as a stream waits until the command has succeeded, so
// an error has its status; a long list goes when it is too long to wait. What
// was asked for as a stream goes at once. Neither ever waits for the client
// while there is an upload: one that sends everything before it reads would
// wait for us.
type answer struct {
	w       *outlet
	text    bool // encoding=text
	stream  bool // the client asked for outputs as they come
	started bool // the head is set
	spools  *spool.Store
	queue   *spool.Spool  // nil: not begun
	out     io.Writer     // where outputs go: the queue, or the client
	sent    chan struct{} // closed when the queue has gone; nil: nothing goes yet
	sending error         // why not all of it could go; after sent
}

// maxHeld is how much of a list waits for its end, where there is no upload.
const maxHeld = 8 << 20

// emit sends one of several outputs.
func (a *answer) emit(v value) error { return a.add(v) }

// add writes one of many outputs.
func (a *answer) add(v value) error {
	a.begin(true)
	return a.encode(v)
}

// once writes the only output.
func (a *answer) once(v value) error {
	a.begin(false)
	return a.encode(v)
}

func (a *answer) encode(v value) error {
	var err error
	if a.text {
		_, err = io.WriteString(a.out, v.text())
	} else {
		err = json.NewEncoder(a.out).Encode(v)
	}
	if err != nil || a.sent != nil {
		return err
	}
	if a.out != a.queue {
		return a.flush()
	}
	if a.stream || a.out == a.queue && !a.uploading() && a.queue.Len() > maxHeld {
		return a.release()
	}
	return nil
}

// piece writes a part of the only output.
func (a *answer) piece(text string) error {
	if _, err := io.WriteString(a.out, text); err != nil || a.out != a.queue || a.queue.Len() <= maxHeld {
		return err
	}
	return a.release()
}

func (a *answer) uploading() bool { return a.w.body != nil && !a.w.body.ended.Load() }

// begin sets the headers of a success.
func (a *answer) begin(chunked bool) {
	if a.started {
		return
	}
	a.headers()
	if chunked {
		a.w.Header().Set("X-Chunked-Output", "1")
	}
	a.queue = a.spools.New()
	a.out = a.queue
}

// release lets outputs go: directly, or during an upload by a goroutine, which
// finish and fail wait for.
func (a *answer) release() error {
	if a.out != a.queue {
		return a.flush()
	}
	a.w.WriteHeader(http.StatusOK)
	if a.uploading() {
		a.sent = make(chan struct{})
		go a.send()
		return nil
	}
	a.queue.End()
	a.out = a.w
	defer a.queue.Close()
	if _, err := io.Copy(a.w, a.queue); err != nil {
		return err
	}
	return a.flush()
}

func (a *answer) flush() error {
	if a.stream {
		a.w.Flush()
	}
	return nil
}

// send writes what is in the queue, until its end. When the client has gone,
// the request's context ends and the command with it.
func (a *answer) send() {
	defer close(a.sent)
	buf := make([]byte, 32<<10)
	for {
		n, err := a.queue.Read(buf)
		if err == nil {
			_, err = a.w.Write(buf[:n])
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				a.sending = err
				a.queue.Close() // nothing more can be written
			}
			return
		}
		if a.queue.Len() == 0 {
			a.w.Flush()
		}
	}
}

// settle waits until all outputs that go have gone.
func (a *answer) settle() error {
	if a.sent == nil {
		return nil
	}
	a.queue.End()
	<-a.sent
	return a.sending
}

// close ends what goes and forgets what did not, also after a panic.
func (a *answer) close() {
	_ = a.settle() // finish and fail have looked at it
	a.queue.Close()
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
}

// finish ends a command that succeeded. What could not be sent whole is cut
// off (INV-END).
func (a *answer) finish() {
	a.begin(true)
	err := a.settle()
	if a.sent == nil && a.out == a.queue {
		a.w.WriteHeader(http.StatusOK)
		a.queue.End()
		_, err = io.Copy(a.w, a.queue)
	}
	if err != nil {
		a.w.Header().Set(streamError, err.Error())
	}
}

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

// fail tells of an error: as the answer, or when outputs have gone as what cuts
// the answer off (see outlet.end).
func (a *answer) fail(err error) {
	if sending := a.settle(); sending != nil {
		err = sending // which is why the command could not go on
	}
	if a.w.status != 0 {
		a.w.Header().Set(streamError, err.Error())
		return
	}
	a.headers()
	a.w.Header().Del("X-Chunked-Output")
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
