package restapi

import (
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/api"
	"holdfast/internal/spool"
)

const (
	trailerError = "X-Stream-Error"      // text of what ended the stream early; always sent, empty when all went well
	trailerCode  = "X-Stream-Error-Code" // its api code

	// headerEnd with the value true in a request asks for a last line that says
	// that the stream is over, and how; in the answer, that the line will come.
	// Trailers get lost in many proxies, and HTTP/1.0 has none.
	headerEnd = "X-Stream-End"

	// maxPending bounds the bytes that wait for a slow client.
	maxPending = 256 << 10
	// sendBytes are sent at once; fewer are when they waited for sendAfter.
	sendBytes = 32 << 10
	sendAfter = 2 * time.Millisecond
)

// endMark is the last line of a stream whose client asked for it. No object of
// a stream has a field "end".
type endMark struct {
	End   bool       `json:"end"` // true
	Error *errorBody `json:"error,omitempty"`
}

// stream answers with one JSON object per line: 204 when there are none, an
// error's own status when it comes first; see output for one that comes later.
func stream[T any](s *server, w http.ResponseWriter, r *http.Request, items iter.Seq2[T, error], encode func(*encoder, T)) {
	out := s.newOutput(w, r)
	defer out.close()
	var failed error
	for item, err := range items {
		if err == nil && r.Method == http.MethodHead {
			out.announce()
			w.WriteHeader(http.StatusOK)
			return
		}
		if err == nil {
			err = add(out, item, encode)
		}
		if err != nil {
			failed = err
			break // end may panic, which is not for the walk to see
		}
	}
	out.end(failed)
}

// output is the answer of a stream on its way. Its end is always stated: by the
// end mark for those who asked for it, by the length of an answer that is kept
// until it is whole (which then still has a status of its own), else by the
// trailers and the end of the chunks. INV-END: no client sees a clean end after
// an error: one that asked for no mark, and does not say that it reads trailers
// (TE: trailers), sees its connection break.
type output struct {
	s       *server
	w       http.ResponseWriter
	r       *http.Request
	encoder *encoder
	mark    bool                // the client asked for the end mark
	hold    bool                // keep everything until the end
	array   bool                // one array in place of lines; goes with hold
	spill   bool                // lines may wait in a file: whoever makes them must not wait for the client
	header  func(h http.Header) // called before anything is sent; nil: nothing to do
	trailer func(h http.Header) // called at the end of an answer with trailers; nil: none of its own

	kept  *spool.Spool // nil: nothing
	lines *lines       // nil: nothing was sent yet
}

func (s *server) newOutput(w http.ResponseWriter, r *http.Request) *output {
	mark := r.Header.Get(headerEnd) == "true"
	return &output{s: s, w: w, r: r, encoder: newEncoder(), mark: mark, hold: !mark && !r.ProtoAtLeast(1, 1)}
}

// announce sets the headers of an answer that is not empty.
func (o *output) announce() {
	h := o.w.Header()
	h.Add("Vary", headerEnd)
	if o.mark {
		h.Set(headerEnd, "true")
	}
	if !o.hold {
		h.Add("Trailer", trailerError)
		h.Add("Trailer", trailerCode)
	}
	if o.header != nil {
		o.header(h)
	}
}

// begin makes the headers leave with the first line.
func (o *output) begin() {
	if o.lines == nil {
		o.announce()
		var spilled *spool.Spool
		if o.spill {
			spilled = o.s.spools.New()
		}
		o.lines = newLines(o.w, spilled)
	}
}

// add encodes a value as the next line. It waits while the client is too slow,
// and returns an error when it is gone.
func add[T any](o *output, value T, encode func(*encoder, T)) error {
	e := o.encoder
	e.buf = e.buf[:0]
	if o.array && o.kept.Len() > 0 {
		e.buf = append(e.buf, ',')
	}
	encode(e, value)
	if e.err != nil {
		return api.Errorf(api.CodeInternal, "encode the answer: %w", e.err)
	}
	if !o.array {
		e.buf = append(e.buf, '\n')
	}
	if o.hold {
		if o.kept == nil {
			o.kept = o.s.spools.New()
		}
		_, err := o.kept.Write(e.buf)
		return err
	}
	o.begin()
	return o.lines.add(e.buf)
}

// end finishes the answer.
func (o *output) end(err error) {
	e := api.AsError(err)
	if o.lines == nil {
		switch {
		case e != nil:
			o.s.fail(o.w, o.r, e)
		case o.array || o.kept.Len() > 0:
			o.endKept()
		default:
			o.w.WriteHeader(http.StatusNoContent)
		}
		return
	}
	if o.lines.close() != nil {
		panic(http.ErrAbortHandler) // something is missing, and nobody can be told
	}
	if e != nil {
		o.s.logFault(o.w, o.r, e)
		if !o.mark && !readsTrailers(o.r) {
			panic(http.ErrAbortHandler)
		}
	}
	if o.mark {
		// A failing write means that the client is gone: nobody is left to tell.
		_, _ = o.w.Write(markLine(e))
	}
	text, code := "", ""
	if e != nil {
		text, code = trailerText(e.Message), string(e.Code)
	}
	h := o.w.Header()
	h.Set(trailerError, text)
	h.Set(trailerCode, code)
	if o.trailer != nil {
		o.trailer(h)
	}
}

// endKept sends what was kept, whose length is known.
func (o *output) endKept() {
	before, after := "", ""
	switch {
	case o.array:
		before, after = "[", "]\n"
	case o.mark:
		after = string(markLine(nil))
	}
	if !o.array {
		o.announce()
	}
	o.w.Header().Set("Content-Length", strconv.FormatInt(int64(len(before))+o.kept.Len()+int64(len(after)), 10))
	_, err := io.WriteString(o.w, before)
	if err == nil && o.kept != nil {
		o.kept.End()
		_, err = io.Copy(o.w, o.kept)
	}
	if err == nil {
		_, err = io.WriteString(o.w, after)
	}
	if e := api.AsError(err); e != nil { // it is cut short, and must look so
		o.s.log.Debug("a kept answer could not be sent", "error", e.Message)
		panic(http.ErrAbortHandler)
	}
}

// close lets go of what end did not send. It may be called after end.
func (o *output) close() {
	_ = o.lines.close() // end has looked at it
	o.kept.Close()
}

func markLine(e *api.Error) []byte {
	mark := endMark{End: true}
	if e != nil {
		mark.Error = &errorBody{Code: e.Code.HTTPStatus(), Message: e.Message, Reason: e.Code}
	}
	data, _ := json.Marshal(mark) // always encodes
	return append(data, '\n')
}

// readsTrailers says whether the client says that it looks at trailers.
func readsTrailers(r *http.Request) bool {
	for _, value := range r.Header.Values("Te") {
		for coding := range strings.SplitSeq(value, ",") {
			if name, _, _ := strings.Cut(coding, ";"); strings.EqualFold(strings.TrimSpace(name), "trailers") {
				return true
			}
		}
	}
	return false
}

// trailerText makes a message fit into a header: it is one line.
func trailerText(message string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, message)
}

// lines sends JSON lines in a goroutine of its own while its user makes the
// next ones. A line leaves at once when nothing was sent for a moment, and
// together with others when many come: each sending costs as much as the making
// of several lines. The user must call close.
type lines struct {
	w    http.ResponseWriter
	done chan struct{}

	mu      sync.Mutex
	more    sync.Cond // pending grew, or closed
	room    sync.Cond // pending was taken, or failed
	pending []byte
	spilled *spool.Spool // comes after pending; not nil: who adds lines must not wait for the client
	due     bool         // what is pending has waited for long enough, however little it is
	closed  bool
	err     error // why sending failed
}

func newLines(w http.ResponseWriter, spilled *spool.Spool) *lines {
	l := &lines{w: w, spilled: spilled, done: make(chan struct{}), due: true}
	l.more.L, l.room.L = &l.mu, &l.mu
	go l.send() // close waits for it
	return l
}

// add sends data, which ends with a newline. It waits while the client is too
// slow, unless what it has not read yet can be spilled.
func (l *lines) add(data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spilled != nil && l.err == nil && (len(l.pending) >= maxPending || l.spilled.Len() > 0) {
		_, err := l.spilled.Write(data)
		return err
	}
	for len(l.pending) >= maxPending && l.err == nil {
		l.room.Wait()
	}
	if l.err != nil {
		return l.err
	}
	l.pending = append(l.pending, data...)
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

// close returns when everything was sent, or why it could not be. It may be
// called twice, and on nil.
func (l *lines) close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	l.closed = true
	l.more.Signal()
	l.mu.Unlock()
	<-l.done
	l.spilled.Close()
	return l.err
}

// take moves the oldest bytes, some of them, into the room of buf and returns
// them. There must be some.
func take(from *spool.Spool, buf []byte) ([]byte, error) {
	if cap(buf) < maxPending {
		buf = make([]byte, maxPending)
	}
	n, err := from.Read(buf[:cap(buf)])
	return buf[:n], err
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
		var err error
		if l.spilled.Len() > 0 {
			l.pending, err = take(l.spilled, l.pending)
		}
		l.due = false
		l.room.Signal()
		l.mu.Unlock()

		if err == nil {
			_, err = l.w.Write(taken)
		}
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
