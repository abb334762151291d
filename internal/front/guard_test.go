package front

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestHosts(t *testing.T) {
	a := API{Name: "test", Deny: DenyREST, Open: func(r *http.Request) bool { return r.URL.Path == "/health" }}
	h := NewGuard(Access{Hosts: []string{"Peer0:9094", "front.example."}}, slog.New(slog.DiscardHandler)).wrap(a, http.HandlerFunc(hello))
	unix := context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.UnixAddr{Name: "/x", Net: "unix"}))
	for _, test := range []struct {
		name, host, path, origin string
		unix                     bool
		want                     int
	}{
		{name: "loopback", host: "localhost:9094", want: 200},
		{name: "case", host: "LOCALHOST:9094", want: 200},
		{name: "final dot", host: "localhost.:9094", want: 200},
		{name: "final dot, no port", host: "Localhost.", want: 200},
		{name: "IPv6", host: "[::1]:9094", want: 200},
		{name: "allowed with port", host: "pEER0:9094", want: 200},
		{name: "allowed, other port", host: "peer0:1", want: 403},
		{name: "allowed with dot", host: "FRONT.example:1", want: 200},
		{name: "foreign", host: "evil.example", want: 403},
		{name: "foreign by suffix", host: "evil.localhost", want: 403},
		{name: "two dots", host: "localhost..:9094", want: 403},
		{name: "foreign health", host: "holdfast.default.svc:9094", path: "/health", want: 200},
		{name: "unix", host: "whatever", unix: true, want: 200},
		{name: "same origin", host: "LOCALHOST:9094", origin: "http://localhost:9094", want: 200},
		{name: "other origin", host: "localhost:9094", origin: "http://evil.example", want: 403},
		{name: "other origin, unix", host: "whatever", unix: true, origin: "http://evil.example", want: 403},
	} {
		r := httptest.NewRequest(http.MethodGet, "/"+strings.TrimPrefix(test.path, "/"), nil)
		if r.Host = test.host; test.origin != "" {
			r.Header.Set("Origin", test.origin)
		}
		if test.unix {
			r = r.WithContext(unix)
		}
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != test.want {
			t.Errorf("%s: %d %s", test.name, w.Code, w.Body)
		}
	}
}

// Who guesses is slowed down; those who know are not, nor is anybody elsewhere.
// The log names the address and no password.
func TestWrongPasswordsAreSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := NewGuard(Access{Users: map[string]string{"ann": "right"}}, slog.New(slog.NewTextHandler(&log, nil))).
			wrap(API{Name: "test", Deny: DenyREST}, http.HandlerFunc(hello))
		ask := func(from, user, password string) *httptest.ResponseRecorder {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = from
			r.SetBasicAuth(user, password)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w
		}
		const client, guesser, neighbour = "10.0.0.1:1", "[2001:db8::1]:1", "[2001:db8::2]:9"
		if got := ask(neighbour, "ann", "right"); got.Code != http.StatusOK {
			t.Fatal(got.Code, got.Body)
		}
		begun := time.Now()
		for range 300 {
			if got := ask(guesser, "ann", "guessed-secret"); got.Code != http.StatusUnauthorized {
				t.Fatal(got.Code, got.Body)
			}
		}
		if took := time.Since(begun); took < 30*time.Minute {
			t.Errorf("300 guesses took %s", took)
		}
		begun = time.Now()
		if got := ask(client, "ann", "right"); got.Code != http.StatusOK {
			t.Errorf("another address: %d %s", got.Code, got.Body)
		}
		if got := ask(neighbour, "ann", "right"); got.Code != http.StatusOK {
			t.Errorf("right before, from a neighbour of the guesser: %d %s", got.Code, got.Body)
		}
		if waited := time.Since(begun); waited > 0 {
			t.Errorf("the right ones waited %s", waited)
		}
		// At once, from many connections.
		codes := make(chan int, 100)
		for range 100 {
			go func() { codes <- ask(neighbour, "ann", "guessed-secret").Code }()
		}
		looked := 0
		for range 100 {
			if code := <-codes; code == http.StatusUnauthorized {
				looked++
			} else if code != http.StatusTooManyRequests {
				t.Errorf("answered %d", code)
			}
		}
		if looked > 1 {
			t.Errorf("%d of 100 guesses were looked at", looked)
		}
		lines := strings.Count(log.String(), "wrong credentials")
		if lines < 2 || lines > 90 || !strings.Contains(log.String(), "2001:db8::/64") || strings.Contains(log.String(), "guessed-secret") {
			t.Errorf("%d lines in the log:\n%.500s", lines, &log)
		}
		time.Sleep(time.Hour)
		if got := ask(guesser, "ann", "guessed-secret"); got.Code != http.StatusUnauthorized {
			t.Errorf("forgiven: %d", got.Code)
		}
	})
}

// What is remembered of addresses and credentials is bounded.
func TestThrottleIsBounded(t *testing.T) {
	throttle, now := newThrottle(), time.Now()
	for i := range 3 * maxAddresses {
		throttle.wrong(addressOf(&net.TCPAddr{IP: net.IPv4(10, byte(i>>16), byte(i>>8), byte(i))}), now)
		throttle.right(strings.Repeat("x", i%200)+string(rune(i)), "ann", "right")
	}
	if len(throttle.offenders) > maxAddresses || len(throttle.known) > maxCredentials {
		t.Errorf("%d addresses, %d credentials", len(throttle.offenders), len(throttle.known))
	}
}

// Users can be changed while the API is served; the old ones are out at once.
func TestUsersChange(t *testing.T) {
	g := NewGuard(Access{Users: map[string]string{"ann": "old"}}, slog.New(slog.DiscardHandler))
	f := open(t, hello, func(_ *API, s *Shared) { s.Guard = g })
	_, addr := address(f, 0)
	ask := func(password string) int {
		r, err := http.NewRequest(http.MethodGet, "http://"+addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("ann", password)
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		return response.StatusCode
	}
	if got := ask("old"); got != http.StatusOK {
		t.Error(got)
	}
	g.Set(Access{Users: map[string]string{"ann": "new"}})
	if got := ask("old"); got != http.StatusUnauthorized {
		t.Error(got)
	}
	if got := ask("new"); got != http.StatusOK {
		t.Error(got)
	}
}

// A reload of the settings forgets nobody whose credentials stay right, so that
// who shares an address with somebody who guesses is not locked out; those that
// are right no longer are refused.
func TestReloadKeepsWhoIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGuard(Access{Users: map[string]string{"ann": "right", "bob": "old", "eve": "out"}}, slog.New(slog.DiscardHandler))
		h := g.wrap(API{Name: "test", Deny: DenyREST}, http.HandlerFunc(hello))
		ask := func(authorization string) int {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = "10.0.0.1:1" // of the proxy that all come through
			if user, password, ok := strings.Cut(authorization, ":"); ok {
				r.SetBasicAuth(user, password)
			} else {
				r.Header.Set("Authorization", "Bearer "+authorization)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		for _, given := range []string{"ann:right", "right", "bob:old", "old", "eve:out", "out"} {
			if got := ask(given); got != http.StatusOK {
				t.Fatalf("%s: %d", given, got)
			}
		}
		g.Set(Access{Users: map[string]string{"ann": "right", "bob": "new"}})
		for range 2 * freeAttempts {
			ask("ann:guessed")
		}
		guess := make(chan int)
		go func() { guess <- ask("ann:guessed") }()
		synctest.Wait() // the address has to wait now
		for given, want := range map[string]int{"ann:right": 200, "right": 200, "bob:new": 429, "bob:old": 429, "old": 429, "eve:out": 429, "out": 429} {
			if got := ask(given); got != want {
				t.Errorf("%s after the reload: %d, want %d", given, got, want)
			}
		}
		<-guess
		time.Sleep(time.Hour)
		for given, want := range map[string]int{"bob:new": 200, "bob:old": 401, "old": 401, "eve:out": 401, "out": 401} {
			if got := ask(given); got != want {
				t.Errorf("%s later: %d, want %d", given, got, want)
			}
		}
	})
}

// What is open tells more to who may use the API, and nobody can guess by it.
func TestOpenTellsStrangersLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		says := func(text string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
		}
		a := API{Name: "test", Deny: DenyREST, Public: says("less"), Open: func(r *http.Request) bool { return r.URL.Path == "/health" }}
		ask := func(h http.Handler, host, path, password string) string {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Host = host
			if password != "" {
				r.SetBasicAuth("ann", password)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				return http.StatusText(w.Code)
			}
			return w.Body.String()
		}
		users := NewGuard(Access{Users: map[string]string{"ann": "right"}}, slog.New(slog.DiscardHandler)).wrap(a, says("all"))
		nobody := NewGuard(Access{}, slog.New(slog.DiscardHandler)).wrap(a, says("all"))
		for _, test := range []struct {
			h                          http.Handler
			host, path, password, want string
		}{
			{users, "x", "/health", "", "less"},
			{users, "x", "/health", "wrong", "less"},
			{users, "x", "/health", "right", "all"},
			{users, "x", "/id", "", "Unauthorized"},
			{users, "x", "/id", "right", "all"},
			{nobody, "localhost", "/health", "", "all"},
			{nobody, "localhost", "/id", "", "all"},
			{nobody, "page.example", "/health", "", "less"}, // of a web page, by DNS rebinding
			{nobody, "page.example", "/id", "", "Forbidden"},
		} {
			if got := ask(test.h, test.host, test.path, test.password); got != test.want {
				t.Errorf("%s with %q as %q: %q, want %q", test.path, test.password, test.host, got, test.want)
			}
		}
		var log bytes.Buffer
		fresh := NewGuard(Access{Users: map[string]string{"ann": "right"}}, slog.New(slog.NewTextHandler(&log, nil))).wrap(a, says("all"))
		for range 2 * freeAttempts {
			ask(fresh, "x", "/health", "guessed")
		}
		if got := ask(fresh, "x", "/health", "right"); got != "less" {
			t.Errorf("the right password among guesses: %q", got)
		}
		if !strings.Contains(log.String(), "wrong credentials") {
			t.Error("nothing is logged of guesses")
		}
		time.Sleep(time.Hour)
		if got := ask(fresh, "x", "/health", "right"); got != "all" {
			t.Errorf("later: %q", got)
		}
	})
}
