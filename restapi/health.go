package restapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"holdfast/api"
)

// Health is asked whether a peer can take writes.
type Health interface {
	Readiness(context.Context) api.Readiness
}

// IsHealth says whether a path is one of those that NewHealth answers. Probes of
// machines ask them without credentials.
func IsHealth(path string) bool { return path == "/health" || path == "/health/ready" }

// NewHealth answers /health and /health/ready in the same way as New does, for
// a peer that cannot answer anything else yet, or any more.
func NewHealth(health Health) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", alive)
	mux.HandleFunc("GET /health/ready", readiness(health))
	return mux
}

// NewPublicHealth answers the same for who gave no credentials: how the peer is,
// and the names of the reasons, but none of their texts, which tell of peers,
// disks and content.
func NewPublicHealth(health Health) http.Handler { return NewHealth(public{health}) }

type public struct{ health Health }

func (p public) Readiness(ctx context.Context) api.Readiness {
	full := p.health.Readiness(ctx)
	var names []api.Condition
	for _, reason := range full.Reasons {
		c := api.Condition{Name: reason.Name, Message: "with credentials this peer says more"}
		if !slices.Contains(names, c) {
			names = append(names, c)
		}
	}
	return api.NotReady(names...)
}

// alive answers that the process serves, whatever else is wrong.
func alive(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusNoContent)
}

// notReadyBody is the JSON of a peer that is not ready: an error, with the
// reasons one by one.
type notReadyBody struct {
	errorBody
	api.Readiness
}

// readiness answers 200, or 503 with the reasons.
func readiness(health Health) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer := health.Readiness(r.Context())
		status, body := http.StatusOK, any(answer)
		if err := api.AsError(answer.Err()); err != nil {
			status = err.Code.HTTPStatus()
			body = notReadyBody{errorBody{Code: status, Message: err.Message, Reason: err.Code}, answer}
			w.Header().Set("Retry-After", "1")
		}
		data, _ := json.Marshal(body) // strings, times and booleans always encode
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Content-Length", strconv.Itoa(len(data)+1))
		w.WriteHeader(status)
		_, _ = w.Write(append(data, '\n')) // a failing write: the client is gone
	}
}
