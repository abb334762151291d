package front

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/internal/route"
)

// TestEvents looks at what is told of requests: the status that the client sees,
// the route, and why something was refused.
func TestEvents(t *testing.T) {
	told := make(chan string, 10)
	users := map[string]string{"admin": "secret"}
	f := open(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/named":
			route.Serves(r, "/{name}")
		case "/wrong":
			DenyREST(w, api.Errorf(api.CodeConflict, "no"))
			return
		case "/cut":
			panic(http.ErrAbortHandler)
		}
		if _, err := w.Write([]byte("ok")); err != nil || http.NewResponseController(w).Flush() != nil {
			t.Error("nothing was sent", err)
		}
	}, func(a *API, s *Shared) {
		s.Guard = NewGuard(Access{Users: users}, s.Logger)
		s.Limits = Limits{Connections: 1, PerAddress: 1}
		s.Events = Events{Begun: func(string) { told <- "begun" }, Refused: func(api, reason string) { told <- "refused " + reason },
			Answered: func(api, route, method string, status int, took time.Duration) {
				if took <= 0 {
					t.Error("it took no time")
				}
				told <- fmt.Sprint(api, " ", route, " ", method, " ", status)
			}}
	})
	c := dial(t, f, "")
	for _, request := range []struct{ line, host, authorization, want string }{
		{"GET /named", "127.0.0.1", "Bearer secret", "begun; test /{name} GET 200"},
		{"GET /", "127.0.0.1", "Bearer secret", "begun; test  GET 200"},
		{"GET /wrong", "127.0.0.1", "Bearer secret", "begun; test  GET 412"},
		{"GET /named", "127.0.0.1", "", "begun; refused credentials; test  GET 401"},
		{"GET /named", "127.0.0.1\r\nOrigin: http://elsewhere", "Bearer secret", "begun; refused host; test  GET 403"},
		{"GET /cut", "127.0.0.1", "Bearer secret", "begun; test  GET 500"},
	} {
		text := request.line + " HTTP/1.1\r\nHost: " + request.host + "\r\n"
		if request.authorization != "" {
			text += "Authorization: " + request.authorization + "\r\n"
		}
		send(t, c, text+"\r\n")
		if request.line != "GET /cut" {
			response := receive(t, c)
			_ = response.Body.Close()
		}
		got := await(t, request.line, told)
		for got != request.want && len(got) < len(request.want) {
			got += "; " + await(t, request.line, told)
		}
		if got != request.want {
			t.Errorf("%s: told %q, want %q", request.line, got, request.want)
		}
	}
}

// A client for which there is no room is told of, whether or not it is answered.
func TestRefusedConnectionsAreTold(t *testing.T) {
	told := make(chan string, 10)
	held := make(chan struct{})
	f := open(t, func(http.ResponseWriter, *http.Request) { held <- struct{}{}; <-held }, func(a *API, s *Shared) {
		s.Limits = Limits{Connections: 1, PerAddress: 1}
		s.Events = Events{Refused: func(api, reason string) { told <- api + " " + reason }}
	})
	send(t, dial(t, f, ""), "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	await(t, "the first request", held)
	dial(t, f, "")
	if got := await(t, "a second connection", told); got != "test connections" {
		t.Errorf("told %q", got)
	}
	held <- struct{}{}
}
