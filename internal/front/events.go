package front

import (
	"io"
	"net/http"
	"time"

	"holdfast/internal/route"
)

// Events are told of the requests of each API, by its name; each may be nil.
// They must be quick.
type Events struct {
	Begun func(api string)
	// Answered says what was answered at last; route is the template of the route
	// that served it, "" if none did.
	Answered func(api, route, method string, status int, took time.Duration)
	// Refused is told before Answered, and for connections instead of it.
	Refused func(api, reason string)
}

// Reasons why something is refused.
const (
	RefusedCredentials = "credentials" // none, or wrong ones
	RefusedThrottle    = "throttle"    // too many wrong ones came from the address
	RefusedHost        = "host"        // a foreign Host or Origin
	RefusedConnections = "connections" // no room for a further one
)

func (e Events) refused(api, reason string) {
	if e.Refused != nil {
		e.Refused(api, reason)
	}
}

func (a *API) refuse(reason string) {
	if a.refused != nil {
		a.refused(reason)
	}
}

// observe tells of each request.
func (f *Front) observe(next http.Handler) http.Handler {
	events := f.shared.Events
	if events.Answered == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		if events.Begun != nil {
			events.Begun(f.api.Name)
		}
		seen := &seenAnswer{ResponseWriter: w}
		watched, template := route.Watch(r)
		returned := false
		defer func() { // also when the answer is cut off
			if seen.status == 0 {
				seen.status = http.StatusInternalServerError
				if returned {
					seen.status = http.StatusOK
				}
			}
			events.Answered(f.api.Name, *template, r.Method, seen.status, time.Since(begun))
		}()
		next.ServeHTTP(seen, watched)
		returned = true
	})
}

// seenAnswer remembers the status of an answer.
type seenAnswer struct {
	http.ResponseWriter
	status int // 0: none yet
}

func (s *seenAnswer) WriteHeader(status int) {
	if s.status == 0 && status >= http.StatusOK {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *seenAnswer) Write(p []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.ResponseWriter.Write(p)
}

// ReadFrom keeps the way of files into the network short.
func (s *seenAnswer) ReadFrom(r io.Reader) (int64, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return io.Copy(s.ResponseWriter, r)
}

// FlushError sends what was written.
func (s *seenAnswer) FlushError() error { return http.NewResponseController(s.ResponseWriter).Flush() }

// Flush is FlushError for those who do not ask.
func (s *seenAnswer) Flush() { _ = s.FlushError() }

// Unwrap is for http.ResponseController.
func (s *seenAnswer) Unwrap() http.ResponseWriter { return s.ResponseWriter }
