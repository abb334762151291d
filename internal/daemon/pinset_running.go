package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/api"
	"holdfast/cluster"
	"holdfast/internal/front"
)

// Trailers of a dump, which say that it is whole.
const (
	trailerPins  = "X-Pins"
	trailerError = "X-Error"
	headerIndex  = "X-Index"
	headerNote   = "X-Note"
)

const (
	// barrierTimeout is how long a dump or hash waits for what was acknowledged
	// before; without a leader it shows what this peer has.
	barrierTimeout = 5 * time.Second
	maxImportBytes = 64 << 20
)

// pinsetRoutes serve the pinset on the admin socket.
func (d *Daemon) pinsetRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /pinset", d.whenReady(d.serveDump))
	mux.HandleFunc("POST /pinset/import", d.whenReady(func(w http.ResponseWriter, r *http.Request) { d.serveChange(w, r, importLine) }))
	mux.HandleFunc("POST /pinset/remove", d.whenReady(func(w http.ResponseWriter, r *http.Request) { d.serveChange(w, r, removeLine) }))
	mux.HandleFunc("GET /pinset/hash", d.whenReady(func(w http.ResponseWriter, r *http.Request) {
		_ = d.barrier(r.Context()) // without a leader: what this peer has
		hash, index, err := d.state.Hash()
		answerAdmin(w, HashAnswer{Hash: hash, Index: index}, err)
	}))
	mux.HandleFunc("GET /pinset/check", d.whenReady(func(w http.ResponseWriter, r *http.Request) {
		answer, err := checkPinset(r.Context(), d.state)
		answerAdmin(w, answer, err)
	}))
}

// whenReady refuses requests to a peer that is starting.
func (d *Daemon) whenReady(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-d.ready:
			next(w, r)
		default:
			front.DenyREST(w, api.Errorf(api.CodeUnavailable, "not ready: this peer is starting"))
		}
	}
}

func answerAdmin(w http.ResponseWriter, answer any, err error) {
	if err != nil {
		front.DenyREST(w, api.AsError(err))
		return
	}
	front.WriteBody(w, http.StatusOK, answer)
}

// barrier waits until this peer has what was acknowledged so far.
func (d *Daemon) barrier(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	return d.cluster.Barrier(ctx)
}

// serveDump streams the pins as lines of JSON.
func (d *Daemon) serveDump(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", trailerPins+", "+trailerError)
	if err := d.barrier(r.Context()); err != nil {
		w.Header().Set(headerNote, "this peer could not ask the leader, so the latest changes may be missing: "+strings.ReplaceAll(err.Error(), "\n", " "))
	}
	out := bufio.NewWriterSize(w, 64<<10)
	encoder := json.NewEncoder(out)
	pins, begun := 0, false
	err := d.state.Dump(func(index uint64) error {
		begun = true
		w.Header().Set(headerIndex, strconv.FormatUint(index, 10))
		return nil
	}, func(pin api.Pin) error {
		pins++
		if err := encoder.Encode(pin); err != nil {
			return err
		}
		return r.Context().Err()
	})
	if err != nil && !begun {
		front.DenyREST(w, api.AsError(err))
		return
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		w.Header().Set(trailerError, strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	w.Header().Set(trailerPins, strconv.Itoa(pins))
}

// serveChange does one thing with each pin of a request.
func (d *Daemon) serveChange(w http.ResponseWriter, r *http.Request, toLine func(api.Pin) api.BulkLine) {
	var pins []api.Pin
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxImportBytes))
	for {
		var pin api.Pin
		err := decoder.Decode(&pin)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			front.DenyREST(w, api.Errorf(api.CodeInvalid, "read the pins: %w", err))
			return
		}
		pins = append(pins, pin)
	}
	before, err := d.cluster.ReadAt(r.Context(), api.ReadPoint{Consistent: true})
	if err != nil {
		front.DenyREST(w, api.AsError(err))
		return
	}
	answer, err := changeAll(r.Context(), d.cluster, before, pins, toLine)
	answerAdmin(w, answer, err)
}

// changeAll does one thing with each pin, as a bulk write: what has a log index
// above before is changed by it. The error is about all of them; some may have
// been changed then.
func changeAll(ctx context.Context, via *cluster.Cluster, before uint64, pins []api.Pin, toLine func(api.Pin) api.BulkLine) (ImportAnswer, error) {
	var answer ImportAnswer
	lines := func(yield func(api.BulkLine) bool) {
		for i, pin := range pins {
			line := toLine(pin)
			line.Line = i + 1
			line.Err = api.AsError(line.Options.Validate())
			if !yield(line) {
				return
			}
		}
	}
	for result := range via.Bulk(ctx, lines) {
		switch {
		case result.Err != nil && result.Err.Code == api.CodeNotFound:
			answer.Unchanged++ // it was to go, and somebody else took it away
		case result.Err != nil:
			answer.Failed = append(answer.Failed, ImportFailed{Cid: result.Cid, Error: result.Err})
		case result.Index > before:
			answer.Changed++
		default:
			answer.Unchanged++
		}
	}
	return answer, context.Cause(ctx)
}

// importLine stores a pin of an export.
func importLine(pin api.Pin) api.BulkLine {
	return api.BulkLine{Cid: pin.Cid, Options: pin.PinOptions, Import: &api.Import{Timestamp: pin.Timestamp, Allocations: pin.Allocations}}
}

// removeLine unpins what nobody has changed since it was looked at.
func removeLine(pin api.Pin) api.BulkLine {
	return api.BulkLine{Cid: pin.Cid, Unpin: true, Revision: pin.Revision}
}

// runningPinset is the pinset of a peer that runs.
type runningPinset struct{ dir string }

func (runningPinset) Running() bool { return true }
func (runningPinset) Close() error  { return nil }

func (p runningPinset) Dump(ctx context.Context, begin func(uint64) error, each func(api.Pin) error) ([]string, error) {
	response, err := sendAdmin(ctx, p.dir, http.MethodGet, "/pinset", nil)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	index, err := strconv.ParseUint(response.Header.Get(headerIndex), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the peer named no index: %w", err)
	}
	if err := begin(index); err != nil {
		return nil, err
	}
	decoder, pins := json.NewDecoder(response.Body), 0
	for {
		var pin api.Pin
		err := decoder.Decode(&pin)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("the peer broke off: %w", err)
		}
		if err := each(pin); err != nil {
			return nil, err
		}
		pins++
	}
	if response.Trailer.Get(trailerPins) != strconv.Itoa(pins) {
		return nil, fmt.Errorf("the peer broke off after %d pins: %s", pins, response.Trailer.Get(trailerError))
	}
	if note := response.Header.Get(headerNote); note != "" {
		return []string{note}, nil
	}
	return nil, nil
}

func (p runningPinset) Import(ctx context.Context, pins []api.Pin) (ImportAnswer, error) {
	return p.change(ctx, "/pinset/import", pins)
}

func (p runningPinset) Remove(ctx context.Context, pins []api.Pin) (ImportAnswer, error) {
	return p.change(ctx, "/pinset/remove", pins)
}

func (p runningPinset) change(ctx context.Context, path string, pins []api.Pin) (ImportAnswer, error) {
	var body bytes.Buffer
	var answer ImportAnswer
	encoder := json.NewEncoder(&body)
	for _, pin := range pins {
		if err := encoder.Encode(pin); err != nil {
			return answer, fmt.Errorf("encode pin %s: %w", pin.Cid, err)
		}
	}
	return answer, askAdmin(ctx, p.dir, http.MethodPost, path, body.String(), &answer)
}

func (p runningPinset) Hash(ctx context.Context) (HashAnswer, error) {
	var answer HashAnswer
	return answer, askAdmin(ctx, p.dir, http.MethodGet, "/pinset/hash", "", &answer)
}

func (p runningPinset) Check(ctx context.Context) (CheckAnswer, error) {
	var answer CheckAnswer
	return answer, askAdmin(ctx, p.dir, http.MethodGet, "/pinset/check", "", &answer)
}
