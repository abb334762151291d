package restapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"holdfast/api"
)

const (
	headerRequestID = "X-Request-Id"

	// headerIndex has a log index: of a write, that of its commit; of a read, one
	// up to which the answer shows everything.
	headerIndex = "X-Cluster-Index"
)

// errorBody is the JSON of every error: the incumbent's two fields and the
// api code.
type errorBody struct {
	Code    int      `json:"code"`
	Message string   `json:"message"`
	Reason  api.Code `json:"reason"`
}

// answer writes one JSON document.
func (s *server) answer(w http.ResponseWriter, r *http.Request, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		s.fail(w, r, api.Errorf(api.CodeInternal, "encode the answer: %w", err))
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	// A failing write means that the client is gone: nobody is left to tell.
	_, _ = w.Write(append(data, '\n'))
}

// answerPin writes what a write of the pinset made.
func (s *server) answerPin(w http.ResponseWriter, r *http.Request, result api.PinResult) {
	w.Header().Set(headerIndex, strconv.FormatUint(result.Index, 10))
	s.onePin(w, r, result.Pin)
}

// onePin answers with a pin, in the form in which lists have it.
func (s *server) onePin(w http.ResponseWriter, r *http.Request, pin api.Pin) {
	e := s.encoders.Get().(*encoder)
	defer s.encoders.Put(e)
	e.buf, e.err = e.buf[:0], nil
	e.pin(pin)
	if e.err != nil {
		s.fail(w, r, api.Errorf(api.CodeInternal, "encode the answer: %w", e.err))
		return
	}
	e.raw("\n")
	w.Header().Set("Content-Length", strconv.Itoa(len(e.buf)))
	// A failing write means that the client is gone: nobody is left to tell.
	_, _ = w.Write(e.buf)
}

// fail writes an error and logs it when it is a fault of ours.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := api.AsError(err)
	s.logFault(w, r, e)
	switch e.Code {
	case api.CodeUnavailable, api.CodeNoLeader, api.CodeRateLimited:
		w.Header().Set("Retry-After", "1")
	}
	writeError(w, e.Code.HTTPStatus(), e)
}

func (s *server) logFault(w http.ResponseWriter, r *http.Request, e *api.Error) {
	if e.Code.HTTPStatus() != http.StatusInternalServerError || errors.Is(r.Context().Err(), context.Canceled) {
		return
	}
	s.log.Error("request failed", "request_id", w.Header().Get(headerRequestID), "method", r.Method,
		"path", r.URL.Path, "error", e.Message)
}

func writeError(w http.ResponseWriter, status int, e *api.Error) {
	// Strings always encode.
	data, _ := json.Marshal(errorBody{Code: status, Message: e.Message, Reason: e.Code})
	w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}
