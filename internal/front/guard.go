package front

import (
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/api"
)

// Guard stands before the HTTP APIs: it checks who asks and under which name
// this peer was called, before anything is parsed.
type Guard struct {
	access   atomic.Pointer[Access]
	throttle *throttle
	logger   *slog.Logger
}

// Access says who may use the APIs.
type Access struct {
	Users map[string]string // user to password; none: everybody
	Hosts []string          // accepted besides loopback names and IP addresses
}

// NewGuard returns a guard.
func NewGuard(access Access, logger *slog.Logger) *Guard {
	g := &Guard{logger: logger, throttle: newThrottle()}
	g.Set(access)
	return g
}

// Set changes who may use the APIs from now on.
func (g *Guard) Set(access Access) {
	hosts := make([]string, 0, len(access.Hosts))
	for _, h := range access.Hosts {
		hosts = append(hosts, canonicalHost(h))
	}
	access.Hosts = hosts
	g.access.Store(&access)
	g.throttle.forgive()
}

// wrap returns a handler behind the guard.
func (g *Guard) wrap(a API, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access := g.access.Load()
		open := a.Open != nil && a.Open(r)
		if err := access.checkHost(r, open); err != nil {
			a.refuse(RefusedHost)
			a.Deny(w, err)
			return
		}
		if len(access.Users) > 0 && !open && !g.admit(w, r, access, &a) {
			return
		}
		if open && a.Public != nil && !g.knows(r, access) {
			a.Public.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// knows says whether who asks may know everything: with the right credentials,
// or when nobody has any, under a name of this peer. What is open is answered to
// the others, too, so wrong credentials are counted here and not refused.
func (g *Guard) knows(r *http.Request, access *Access) bool {
	if len(access.Users) == 0 {
		return overUnix(r) || access.knownHost(r.Host)
	}
	given := r.Header.Get("Authorization")
	if given == "" || g.throttle.isRight(given, access.Users) {
		return given != ""
	}
	from := clientOf(r)
	if _, ok := g.throttle.begin(from, time.Now()); !ok {
		return false
	}
	if user, ok := access.authenticated(r); ok {
		g.throttle.right(given, user, access.Users[user])
		return true
	}
	g.wrong(r, from)
	return false
}

// wrong counts wrong credentials, logs them when it is time, and returns how
// long to wait with the answer.
func (g *Guard) wrong(r *http.Request, from netip.Prefix) (pause time.Duration) {
	pause, tell := g.throttle.wrong(from, time.Now())
	if tell > 0 {
		g.logger.Warn("wrong credentials", "from", from, "attempts", tell, "method", r.Method, "path", r.URL.Path)
	}
	return pause
}

// admit lets a request with the right credentials through and answers any
// other. An address that has sent many wrong ones has to wait before its next
// ones are looked at; those that were right before are right at once.
func (g *Guard) admit(w http.ResponseWriter, r *http.Request, access *Access, a *API) bool {
	given := r.Header.Get("Authorization")
	if given == "" {
		a.refuse(RefusedCredentials)
		g.refuse(w, a.Deny, "unauthorized: give a user and password (--basic-auth) or a bearer token (--token) of this peer's http.users")
		return false
	}
	if g.throttle.isRight(given, access.Users) {
		return true
	}
	from := clientOf(r)
	wait, ok := g.throttle.begin(from, time.Now())
	if !ok {
		a.refuse(RefusedThrottle)
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		a.Deny(w, api.Errorf(api.CodeRateLimited, "too many wrong passwords came from your address; try again in %s", wait.Round(time.Second)))
		return false
	}
	if user, ok := access.authenticated(r); ok {
		g.throttle.right(given, user, access.Users[user])
		return true
	}
	a.refuse(RefusedCredentials)
	pause := time.NewTimer(g.wrong(r, from))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-r.Context().Done():
	}
	g.refuse(w, a.Deny, "unauthorized: these are not the user and password, or the bearer token, of anybody in this peer's http.users")
	return false
}

func (g *Guard) refuse(w http.ResponseWriter, deny func(http.ResponseWriter, *api.Error), message string) {
	w.Header().Add("WWW-Authenticate", `Bearer realm="Restricted Cluster API"`)
	w.Header().Add("WWW-Authenticate", `Basic realm="Restricted Cluster API"`)
	deny(w, api.Errorf(api.CodeUnauthorized, "%s", message))
}

// checkHost refuses requests that a web page could have made through a DNS
// name of its own (DNS rebinding): without credentials only IP addresses,
// loopback names and configured hosts are this peer. No page reaches a unix
// socket, and probes of open routes come under any name. An Origin must be one
// of the same, because no cross-origin use is offered.
func (a *Access) checkHost(r *http.Request, open bool) *api.Error {
	if len(a.Users) == 0 && !open && !overUnix(r) && !a.knownHost(r.Host) {
		return api.Errorf(api.CodeForbidden, "this peer does not answer to the name %q; add it to http.allowed_hosts, or use its IP address", r.Host)
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		_, host, _ := strings.Cut(origin, "://")
		if canonicalHost(host) != canonicalHost(r.Host) {
			return api.Errorf(api.CodeForbidden, "requests of web pages from %q are not accepted", origin)
		}
	}
	return nil
}

func overUnix(r *http.Request) bool {
	_, ok := r.Context().Value(http.LocalAddrContextKey).(*net.UnixAddr)
	return ok
}

// canonicalHost is a host, with or without a port, in lower case and without
// the dot that may end a full name.
func canonicalHost(hostport string) string {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return strings.ToLower(strings.TrimSuffix(hostport, "."))
	}
	return net.JoinHostPort(strings.ToLower(strings.TrimSuffix(host, ".")), port)
}

func (a *Access) knownHost(hostport string) bool {
	hostport = canonicalHost(hostport)
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	host = strings.Trim(host, "[]")
	return host == "" || host == "localhost" || net.ParseIP(host) != nil ||
		slices.Contains(a.Hosts, host) || slices.Contains(a.Hosts, hostport)
}

// authenticated says whose credentials these are. It compares in constant time:
// the length of a password does not show either, because digests are compared.
func (a *Access) authenticated(r *http.Request) (user string, ok bool) {
	same := func(a, b string) bool {
		x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
		return subtle.ConstantTimeCompare(x[:], y[:]) == 1
	}
	if name, password, ok := r.BasicAuth(); ok {
		expected, known := a.Users[name]
		return name, same(password, expected) && known
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	for name, password := range a.Users {
		if same(strings.TrimSpace(token), password) {
			user, ok = name, true
		}
	}
	return user, ok
}
