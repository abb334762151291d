package restapi_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/restapi"
	"holdfast/restapi/fake"
)

type health func() api.Readiness

func (h health) Readiness(context.Context) api.Readiness { return h() }

// A peer that is alive and not ready says so, with each reason, in the same
// words before, while and after it answers anything else.
func TestNotReady(t *testing.T) {
	why := func() api.Readiness {
		out := api.NotReady(api.Condition{Name: api.AlertNoLeader, Message: "two of three are away", Since: time.Unix(1, 0).UTC()})
		out.Stage = "a stage"
		return out
	}
	handlers := map[string]http.Handler{"health alone": restapi.NewHealth(health(why)),
		"the whole API": restapi.New(&fake.Service{OnReadiness: why}, &fake.Service{}, restapi.Config{})}
	for name, handler := range handlers {
		for _, c := range []struct {
			method, path string
			status       int
			body         string
		}{
			{"GET", "/health", 204, ""},
			{"HEAD", "/health", 204, ""},
			{"GET", "/health/ready", 503, `{"code":503,"message":"not ready: no_leader: two of three are away","reason":"unavailable","ready":false,"stage":"a stage",` +
				`"reasons":[{"name":"no_leader","message":"two of three are away","since":"1970-01-01T00:00:01Z"}]}` + "\n"},
		} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("%s: %s %s: %d %s", name, c.method, c.path, w.Code, w.Body)
			}
			if c.status == 503 && (w.Header().Get("Retry-After") == "" || !strings.HasPrefix(w.Header().Get("Content-Type"), "application/json")) {
				t.Errorf("%s: headers %v", name, w.Header())
			}
		}
	}
}

// Who gave no credentials learns how the peer is, and the names of the reasons.
func TestPublicHealth(t *testing.T) {
	full := api.NotReady(api.Condition{Name: "ping", Subject: "peer-a", Message: "peer-a at 10.0.0.1 is away", Since: time.Unix(1, 0)},
		api.Condition{Name: "ping", Subject: "peer-b", Message: "peer-b is away"}, api.Condition{Name: api.AlertNoLeader, Message: "two of three are away"})
	full.Stage = "opens /var/lib/secret"
	const more = "with credentials this peer says more"
	for _, c := range []struct {
		path   string
		says   api.Readiness
		status int
		body   string
	}{
		{"/health", full, 204, ""},
		{"/health/ready", api.NotReady(), 200, `{"ready":true,"reasons":[]}` + "\n"},
		{"/health/ready", full, 503, `{"code":503,"message":"not ready: ping: ` + more + `; no_leader: ` + more + `","reason":"unavailable","ready":false,` +
			`"reasons":[{"name":"ping","message":"` + more + `"},{"name":"no_leader","message":"` + more + `"}]}` + "\n"},
	} {
		w := httptest.NewRecorder()
		handler := restapi.NewPublicHealth(health(func() api.Readiness { return c.says }))
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))
		if w.Code != c.status || w.Body.String() != c.body {
			t.Errorf("%s: %d %s", c.path, w.Code, w.Body)
		}
	}
}
