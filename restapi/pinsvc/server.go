package pinsvc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"holdfast/api"
	"holdfast/internal/route"

	"github.com/gorilla/mux"
)

const (
	// maxBody bounds the JSON of one pin; metadata and origins of the allowed
	// size fit many times.
	maxBody     = 256 << 10
	maxKeyBytes = 256
)

// Config is what New may be told; its zero value works.
type Config struct {
	// Logger gets faults of ours with their request id. nil: nothing is logged.
	Logger *slog.Logger
}

type server struct {
	service Service
	log     *slog.Logger
}

// New returns the handler of the API, which has its routes at the root.
// Listening, TLS and the check of access tokens are its caller's.
func New(service Service, config Config) http.Handler {
	s := &server{service: service, log: config.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	r := mux.NewRouter().SkipClean(true)
	r.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }).
		Methods(http.MethodGet, http.MethodHead)
	r.HandleFunc("/pins", s.list).Methods(http.MethodGet, http.MethodHead)
	r.HandleFunc("/pins", s.create).Methods(http.MethodPost)
	r.HandleFunc("/pins/{requestid}", s.get).Methods(http.MethodGet, http.MethodHead)
	r.HandleFunc("/pins/{requestid}", s.replace).Methods(http.MethodPost)
	r.HandleFunc("/pins/{requestid}", s.remove).Methods(http.MethodDelete)
	r.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if template, err := mux.CurrentRoute(req).GetPathTemplate(); err == nil {
				route.Serves(req, template)
			}
			next.ServeHTTP(w, req)
		})
	})
	r.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, api.Errorf(api.CodeNotFound, "there is nothing at %s", r.URL.Path))
	})
	r.MethodNotAllowedHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", r.Method+" is not possible on "+r.URL.Path)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", rand.Text())
		r.ServeHTTP(w, req)
	})
}

func (s *server) create(w http.ResponseWriter, r *http.Request) {
	body, options, id, err := readPin(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	result, err := s.service.Pin(r.Context(), api.PinRequest{Cid: body.Cid, Options: options, RequestID: id})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusAccepted, s.statusOf(r.Context(), result.Pin))
}

// statusOf asks the peers. The pin is committed: when they cannot be asked, it
// is queued as far as anybody knows.
func (s *server) statusOf(ctx context.Context, pin api.Pin) pinStatus {
	info, err := s.service.Status(ctx, pin.Cid, false)
	if err != nil {
		info = pin.GlobalInfo()
	}
	return newStatus(pin, info)
}

func (s *server) get(w http.ResponseWriter, r *http.Request) {
	pin, err := s.find(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	info, err := s.service.Status(r.Context(), pin.Cid, false)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, newStatus(pin, info))
}

// replace pins the new CID before it lets go of the old one, so that what both
// share is never without a pin.
func (s *server) replace(w http.ResponseWriter, r *http.Request) {
	old, err := s.find(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	body, options, id, err := readPin(w, r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	options.ReplicationFactorMin, options.ReplicationFactorMax = old.ReplicationFactorMin, old.ReplicationFactorMax
	options.UserAllocations = old.Allocations // they have most of the blocks already
	result, err := s.service.Pin(r.Context(), api.PinRequest{Cid: body.Cid, Options: options, RequestID: id + "/pin"})
	if err == nil && !old.Cid.Equals(body.Cid.Cid) {
		_, err = s.service.Unpin(r.Context(), api.UnpinRequest{Cid: old.Cid, RequestID: id + "/unpin"})
		if errors.Is(err, api.ErrNotFound) {
			err = nil // somebody else let go of it meanwhile
		}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.answer(w, r, http.StatusAccepted, s.statusOf(r.Context(), result.Pin))
}

func (s *server) remove(w http.ResponseWriter, r *http.Request) {
	pin, err := s.find(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	id, err := requestID(r, pinBody{})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if _, err := s.service.Unpin(r.Context(), api.UnpinRequest{Cid: pin.Cid, RequestID: id}); err != nil {
		s.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// find reads the pin that the path names. What is not a CID was never a
// request id of ours.
func (s *server) find(r *http.Request) (api.Pin, error) {
	text := mux.Vars(r)["requestid"]
	c, err := api.DecodeCid(text)
	if err != nil {
		return api.Pin{}, api.Errorf(api.CodeNotFound, "there is no pin request %q", text)
	}
	pin, err := s.service.Allocation(r.Context(), c)
	if errors.Is(err, api.ErrNotFound) {
		return api.Pin{}, api.Errorf(api.CodeNotFound, "there is no pin request %q", text)
	}
	return pin, err
}

// requestID makes a repeat with one Idempotency-Key safe. It is bound to the
// whole request: a key used twice for different pins makes two pins.
func requestID(r *http.Request, body pinBody) (string, error) {
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		return rand.Text(), nil
	}
	if len(key) > maxKeyBytes {
		return "", api.Errorf(api.CodeInvalid, "the Idempotency-Key header has %d bytes; at most %d are allowed", len(key), maxKeyBytes)
	}
	data, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s\n%s\n%s", r.Method, r.URL.Path, key, data))
	return hex.EncodeToString(sum[:16]), nil
}

func (s *server) answer(w http.ResponseWriter, r *http.Request, status int, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		s.fail(w, r, api.Errorf(api.CodeInternal, "encode the answer: %w", err))
		return
	}
	w.WriteHeader(status)
	// A failing write means that the client is gone: nobody is left to tell.
	_, _ = w.Write(append(data, '\n'))
}

// fail answers with an error in the form of the specification.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := api.AsError(err)
	status, reason := e.Code.HTTPStatus(), strings.ToUpper(string(e.Code))
	switch e.Code {
	case api.CodeInvalid:
		reason = "BAD_REQUEST"
	case api.CodeInternal:
		reason = "INTERNAL_SERVER_ERROR"
		if !errors.Is(r.Context().Err(), context.Canceled) {
			s.log.Error("request failed", "request_id", w.Header().Get("X-Request-Id"), "method", r.Method, "path", r.URL.Path, "error", e.Message)
		}
	case api.CodeNotEnoughPeers:
		status = http.StatusServiceUnavailable // 409 tells users of this API that they have not paid
	}
	writeError(w, status, reason, e.Message)
}

func writeError(w http.ResponseWriter, status int, reason, details string) {
	var body struct {
		Error struct {
			Reason  string `json:"reason"`
			Details string `json:"details"`
		} `json:"error"`
	}
	body.Error.Reason, body.Error.Details = reason, details
	data, _ := json.Marshal(body) // strings always encode
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n'))
}
