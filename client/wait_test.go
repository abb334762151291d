package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/api"
	"holdfast/client"
)

// script answers every request with the next of its statuses, the last for
// ever; time in a synctest bubble costs nothing.
type script struct {
	steps []map[string]api.TrackerStatus
	asked int
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	step := s.steps[min(s.asked, len(s.steps)-1)]
	s.asked++
	info := api.GlobalPinInfo{Cid: cidA, PeerMap: map[string]api.PinInfoShort{}}
	for name, status := range step {
		info.PeerMap[name] = api.PinInfoShort{PeerName: name, Status: status, Error: "why"}
	}
	data, err := json.Marshal(info)
	return &http.Response{StatusCode: 200, Request: r, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(data))}, err
}

func TestWaitFor(t *testing.T) {
	type m = map[string]api.TrackerStatus
	const pinned, pinning, failed, remote, gone, silent = api.StatusPinned, api.StatusPinning, api.StatusPinError, api.StatusRemote, api.StatusUnpinned, api.StatusClusterError
	for _, tc := range []struct {
		name   string
		target api.TrackerStatus
		limit  int
		steps  []m
		asked  int
		err    string // "": reached
	}{
		{"at once", pinned, 0, []m{{"a": pinned, "b": remote}}, 1, ""},
		{"all by default", pinned, 0, []m{{"a": pinned, "b": pinning}, {"a": pinned, "b": pinned}}, 2, ""},
		{"a limit", pinned, 1, []m{{"a": pinning, "b": pinning}, {"a": pinned, "b": pinning}}, 2, ""},
		{"a limit over the peers concerned", pinned, 3, []m{{"a": pinned, "b": pinned, "c": remote}}, 1, ""},
		{"not there yet", pinned, 0, []m{{"a": remote}, {}, {"a": gone}, {"a": pinned}}, 4, ""},
		{"an error of before", pinned, 0, []m{{"a": failed}, {"a": pinned}}, 2, ""},
		{"an error of one, enough others", pinned, 1, []m{{"a": failed, "b": pinning}, {"a": failed, "b": pinning}, {"a": failed, "b": pinned}}, 3, ""},
		{"an error", pinned, 0, []m{{"a": failed, "b": pinned}}, 2, "a (a): pin_error: why"},
		{"a silent peer comes back", pinned, 0, []m{{"a": silent}, {"a": silent}, {"a": pinned}}, 3, ""},
		{"a silent peer", pinned, 0, []m{{"a": silent}}, 17, "a (a): cluster_error: why"},
		{"gone", gone, 0, []m{{"a": pinned, "b": remote}, {"a": gone, "b": gone}}, 2, ""},
		{"gone everywhere", gone, 0, []m{{}}, 1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{steps: tc.steps}
				c := connect(t, client.Config{HTTPClient: &http.Client{Transport: s}})
				status, err := c.WaitFor(t.Context(), cidA, tc.target, tc.limit, 0)
				if (err == nil) != (tc.err == "") || (err != nil && !strings.Contains(err.Error(), tc.err)) {
					t.Errorf("error %v", err)
				}
				if s.asked != tc.asked || len(status.PeerMap) != len(tc.steps[len(tc.steps)-1]) {
					t.Errorf("asked %d times, got %v", s.asked, status.PeerMap)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []m{{"a": pinning}}}
		c := connect(t, client.Config{HTTPClient: &http.Client{Transport: s}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		status, err := c.WaitFor(ctx, cidA, pinned, 0, 5*time.Second)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "a pinning") || len(status.PeerMap) != 1 {
			t.Errorf("at the deadline: %v, %v", status, err)
		}
	})
}

func TestAddresses(t *testing.T) {
	for addr, want := range map[string]string{
		"/ip4/10.0.0.1/tcp/9094":                    "http://10.0.0.1:9094/id",
		"/ip6/::1/tcp/9094":                         "http://[::1]:9094/id",
		"/dns4/example.org/tcp/443/https":           "https://example.org:443/id",
		"/dns/example.org/tcp/443/tls/http":         "https://example.org:443/id",
		"/ip4/10.0.0.1/tcp/9094/http":               "http://10.0.0.1:9094/id",
		"https://example.org/cluster/":              "https://example.org/cluster/id",
		"http://127.0.0.1:9094":                     "http://127.0.0.1:9094/id",
		"":                                          "http://127.0.0.1:9094/id",
		"ftp://example.org":                         "",
		"example.org:9094":                          "",
		"/ip4/10.0.0.1":                             "",
		"/ip4/10.0.0.1/udp/9094":                    "",
		"/ip4/10.0.0.1/tcp/1/p2p/" + peerA.String(): "",
		"/nonsense":                                 "",
	} {
		seen := ""
		config := client.Config{HTTPClient: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			seen = r.URL.String()
			user, password, _ := r.BasicAuth()
			if user != "u" || password != "p" {
				t.Errorf("credentials %q %q", user, password)
			}
			return nil, errors.New("enough")
		})}, User: "u", Password: "p"}
		if addr != "" {
			config.Addrs = []string{addr}
		}
		c, err := client.New(config)
		if (err != nil) != (want == "") || (err != nil && api.CodeOf(err) != api.CodeInvalid) {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		if err == nil {
			_, _ = c.ID(t.Context())
		}
		if seen != want {
			t.Errorf("%s leads to %s, want %s", addr, seen, want)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
