package restapi

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"mime"
	"net/http"
	"strconv"
	"time"

	"holdfast/api"
)

const mediaNDJSON = "application/x-ndjson"

// bulk pins and unpins what the lines of the body say. Results leave while
// lines still come, in the same order. Who does not take them is not read on.
func (s *server) bulk(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r)
	first := max(q.count("line"), 1)
	if q.err != nil {
		s.fail(w, r, q.err)
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != mediaNDJSON {
		s.fail(w, r, api.Errorf(api.CodeInvalid, "the body must be %s: one JSON object per line", mediaNDJSON))
		return
	}
	id, err := requestKey(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Connection", "close")
	control := http.NewResponseController(w)
	// The end of the request ends a read of the body that waits for the client.
	ctx, cancel := context.WithCancel(r.Context())
	defer context.AfterFunc(ctx, func() { _ = control.SetReadDeadline(time.Unix(1, 0)) })()
	defer cancel()

	in := newBulkReader(r.Body, id, first)
	var index uint64
	out := s.newOutput(w, r)
	defer out.close()
	out.hold = out.hold || !r.ProtoAtLeast(1, 1) // such a proxy or client does one thing at a time
	out.header = func(h http.Header) {
		if !out.hold {
			h.Add("Trailer", headerIndex)
		}
		h.Set("Content-Type", mediaNDJSON)
	}
	out.trailer = func(h http.Header) { h.Set(headerIndex, strconv.FormatUint(index, 10)) }
	for result := range s.service.Bulk(ctx, in.lines()) {
		index = max(index, result.Index)
		if err = add(out, result, (*encoder).bulkResult); err != nil {
			cancel() // lets go of the body
			break
		}
	}
	if err == nil {
		err = errors.Join(in.err, ctx.Err())
	}
	out.end(err)
}

// bulkResult writes the pin of a line, or its error.
func (e *encoder) bulkResult(r api.BulkResult) {
	if r.Err == nil {
		e.pin(r.Pin)
		return
	}
	e.raw(`{"error":`)
	e.value(errorBody{Code: r.Err.Code.HTTPStatus(), Message: r.Err.Message, Reason: r.Err.Code})
	e.raw(`,"line":`)
	e.integer(r.Line)
	e.raw(`,"cid":`)
	e.cid(r.Cid)
	e.buf = append(e.buf, '}')
}

// bulkReader cuts a body into lines.
type bulkReader struct {
	in   *bufio.Reader
	id   string // of the request
	next int    // number of the next line
	err  error  // why the body could not be read to its end
}

func newBulkReader(body io.Reader, id string, first int) *bulkReader {
	return &bulkReader{in: bufio.NewReaderSize(body, api.MaxBulkLine), id: id, next: first}
}

// lines reads the body once. Blank lines are counted and left out.
func (b *bulkReader) lines() iter.Seq[api.BulkLine] {
	return func(yield func(api.BulkLine) bool) {
		for {
			data, tooLong, err := b.read()
			line := api.BulkLine{Line: b.next}
			b.next++
			data = bytes.TrimSpace(data)
			switch {
			case tooLong:
				line.Err = api.Errorf(api.CodeTooLarge, "the line has more than %d bytes", api.MaxBulkLine)
			case len(data) > 0 && err == nil:
				line.RequestID = b.requestID(line.Line, data)
				line.Err = api.AsError(line.UnmarshalJSON(data))
			}
			if (tooLong || len(data) > 0 && err == nil) && !yield(line) {
				return
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					b.err = api.Errorf(api.CodeInvalid, "the body broke off in line %d: %w", line.Line, err)
				}
				return
			}
		}
	}
}

// read returns the next line. The error of the last one, which need not end
// with a newline, comes with the next call.
func (b *bulkReader) read() (data []byte, tooLong bool, err error) {
	data, err = b.in.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		tooLong = true
		_, err = b.in.ReadSlice('\n')
	}
	if errors.Is(err, io.EOF) && len(data) > 0 {
		err = nil
	}
	return data, tooLong, err
}

// requestID binds the key of the request to the line: its place and what it
// says. 32 characters.
func (b *bulkReader) requestID(line int, data []byte) string {
	text := make([]byte, 0, 512)
	text = append(text, b.id...)
	text = strconv.AppendInt(append(text, '\n'), int64(line), 10)
	text = append(append(text, '\n'), data...)
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}
