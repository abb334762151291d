package front

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdfast/api"
)

// From its first moment on a peer tells how it is, and one that is outside its
// cluster tells why; everything else waits, or is refused.
func TestHealthWhileNothingElseAnswers(t *testing.T) {
	says := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(text)) })
	}
	var outside *api.Error
	f := &Front{shared: Shared{Outside: func() *api.Error { return outside }}, api: API{Deny: DenyREST, Health: says("health"),
		Open: func(r *http.Request) bool {
			return strings.HasPrefix(r.URL.Path, "/health") && r.URL.Path != "/health/alerts"
		},
		Tells: func(r *http.Request) bool { return r.URL.Path == "/health/alerts" }}}
	expect := func(when, path string, status int, word string) {
		t.Helper()
		w := httptest.NewRecorder()
		f.serve(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Code != status || !strings.Contains(w.Body.String(), word) {
			t.Errorf("%s: %s: %d %s", when, path, w.Code, w.Body)
		}
	}
	for _, path := range []string{"/health", "/health/ready"} {
		expect("at the start", path, 200, "health")
	}
	expect("at the start", "/health/alerts", 503, "starting")
	expect("at the start", "/id", 503, "starting")
	outside = api.Errorf(api.CodeUnavailable, "it was removed")
	expect("outside at the start", "/health/ready", 200, "health")
	expect("outside at the start", "/health/alerts", 503, "it was removed")
	f.Ready(says("the API"))
	expect("outside", "/health/ready", 200, "health")
	expect("outside", "/health/alerts", 200, "the API")
	expect("outside", "/id", 503, "it was removed")
	outside = nil
	for _, path := range []string{"/health", "/health/ready", "/health/alerts", "/id"} {
		expect("when all is well", path, 200, "the API")
	}
}
