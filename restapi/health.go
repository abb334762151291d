package restapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"holdfast/api"
)

// Health is asked whether a peer can take writes.
type Health interface {
	Readiness(context.Context) api.Readiness
}

// IsHealth says whether a path is one of those that NewHealth answers. They say
// no more than how the peer is, and probes of machines ask without credentials.
func IsHealth(path string) bool { return path == "/health" || path == "/health/ready" }

// NewHealth answers /health and /health/ready in the same way as New does, for
// a peer that cannot answer anything else yet, or any more.
func NewHealth(health Health) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", alive)
	mux.HandleFunc("GET /health/ready", readiness(health))
	return mux
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
