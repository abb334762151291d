package daemon

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net"
	"net/http"
	"slices"
	"strings"

	"holdfast/api"
)

// guard stands before the HTTP APIs: it checks who asks and under which name
// this peer was called, before anything is parsed.
type guard struct {
	users map[string]string
	hosts []string // accepted besides loopback names and IP addresses
	open  func(*http.Request) bool
	deny  func(http.ResponseWriter, *api.Error)
}

// wrap returns a handler behind the guard.
func (g guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.checkHost(r); err != nil {
			g.deny(w, err)
			return
		}
		if len(g.users) > 0 && !g.open(r) && !g.authenticated(r) {
			w.Header().Add("WWW-Authenticate", `Bearer realm="Restricted Cluster API"`)
			w.Header().Add("WWW-Authenticate", `Basic realm="Restricted Cluster API"`)
			g.deny(w, api.Errorf(api.CodeUnauthorized, "unauthorized: give a user and password (--basic-auth) or a bearer token (--token) of this peer's http.users"))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// checkHost refuses requests that a web page could have made through a DNS
// name of its own (DNS rebinding): without credentials only IP addresses,
// loopback names and configured hosts are this peer. An Origin must be one of
// the same, because no cross-origin use is offered.
func (g guard) checkHost(r *http.Request) *api.Error {
	if len(g.users) == 0 && !g.knownHost(r.Host) {
		return api.Errorf(api.CodeForbidden, "this peer does not answer to the name %q; add it to http.allowed_hosts, or use its IP address", r.Host)
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		_, host, _ := strings.Cut(origin, "://")
		if host != r.Host {
			return api.Errorf(api.CodeForbidden, "requests of web pages from %q are not accepted", origin)
		}
	}
	return nil
}

func (g guard) knownHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.Trim(host, "[]")
	return host == "" || host == "localhost" || net.ParseIP(host) != nil ||
		slices.Contains(g.hosts, host) || slices.Contains(g.hosts, hostport)
}

// authenticated compares in constant time: the length of a password does not
// show either, because digests are compared.
func (g guard) authenticated(r *http.Request) bool {
	same := func(a, b string) bool {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return subtle.ConstantTimeCompare(x[:], y[:]) == 1
	}
	if name, password, ok := r.BasicAuth(); ok {
		expected, known := g.users[name]
		return same(password, expected) && known
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	found := false
	for _, password := range g.users {
		found = same(strings.TrimSpace(token), password) || found
	}
	return found
}

// denyREST answers with the REST API's error body.
func denyREST(w http.ResponseWriter, err *api.Error) {
	status := err.Code.HTTPStatus()
	writeBody(w, status, map[string]any{"code": status, "message": err.Message, "reason": err.Code})
}

// denyKubo answers with the Kubo RPC's error body.
func denyKubo(w http.ResponseWriter, err *api.Error) {
	writeBody(w, err.Code.HTTPStatus(), map[string]any{"Message": err.Message, "Code": 0, "Type": "error"})
}

// denyPinning answers with the Pinning Service API's error body.
func denyPinning(w http.ResponseWriter, err *api.Error) {
	reason := strings.ToUpper(string(err.Code))
	writeBody(w, err.Code.HTTPStatus(), map[string]any{"error": map[string]string{"reason": reason, "details": err.Message}})
}

func writeBody(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client may be gone, and nobody else cares
}
