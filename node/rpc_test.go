package node

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"holdfast/api"
)

func TestRPC(t *testing.T) {
	n := start(t, testConfig(t))
	var id struct{ ID, AgentVersion string }
	code, body := rpc(t, n, "id")
	if err := json.Unmarshal([]byte(body), &id); err != nil || code != http.StatusOK || id.ID != n.ID().String() {
		t.Errorf("id: %d %s", code, body)
	}
	root := add(t, n, []byte("hello"), "pin=true&raw-leaves=true")
	for _, test := range []struct{ path, want string }{
		{"cat?arg=" + root.String(), "hello"},
		{"block/get?arg=" + root.String(), "hello"},
		{"version", `"Version":"0.43.0"`},
		{"resolve?arg=" + root.String(), root.String()},
		{"files/mkdir?arg=/d", ""},
		{"files/ls", `"Name":"d"`},
		{"stats/repo?size-only=true", `"RepoSize"`},
		{"swarm/peers", "Peers"},
	} {
		if code, body := rpc(t, n, test.path); code != http.StatusOK || !strings.Contains(body, test.want) {
			t.Errorf("%s: %d %s", test.path, code, body)
		}
	}
	if code, body := rpc(t, n, "nonsense"); code != http.StatusNotFound {
		t.Errorf("unknown command: %d %s", code, body)
	}
	for _, command := range []string{"shutdown", "shutdown/x", "config/replace/x", "key/rotate", "pin/add/x", "add"} {
		code, body := rpc(t, n, command)
		if code != http.StatusForbidden || !strings.Contains(body, `"Type":"error"`) {
			t.Errorf("%s: %d %s", command, code, body)
		}
	}
	if code, body := kuboRPC(t, n, "pin/ls?arg="+root.String()); code != http.StatusOK || !strings.Contains(body, `"Type":"recursive"`) {
		t.Errorf("the user's pin: %d %s", code, body)
	}
	if pinned, err := n.Pinned(t.Context(), root); err != nil || pinned {
		t.Errorf("the user's pin counts as ours: %v", err)
	}
}

func TestRPCHeaders(t *testing.T) {
	n := start(t, testConfig(t))
	for _, test := range []struct {
		name, header, value string
		method              string
		status              int
	}{
		{"plain", "", "", http.MethodPost, http.StatusOK},
		{"Kubo's client", "User-Agent", "kubo/0.43.0/", http.MethodPost, http.StatusOK},
		{"another host", "Host", "cluster.example.org:9095", http.MethodPost, http.StatusOK},
		{"a page", "Origin", "http://evil.example.org", http.MethodPost, http.StatusForbidden},
		{"a page of ours", "Origin", "http://127.0.0.1:9095", http.MethodPost, http.StatusForbidden},
		{"the browser extension", "Origin", "chrome-extension://nibjojkomfdiaoajekhjakgkdhaomnch", http.MethodPost, http.StatusForbidden},
		{"a link on a page", "Referer", "http://evil.example.org/page", http.MethodPost, http.StatusForbidden},
		{"a browser", "User-Agent", "Mozilla/5.0", http.MethodPost, http.StatusForbidden},
		{"a read", "", "", http.MethodGet, http.StatusMethodNotAllowed},
	} {
		r := httptest.NewRequest(test.method, "/api/v0/version", nil)
		if test.header == "Host" {
			r.Host = test.value
		} else if test.header != "" {
			r.Header.Set(test.header, test.value)
		}
		w := httptest.NewRecorder()
		n.RPC().ServeHTTP(w, r)
		if w.Code != test.status {
			t.Errorf("%s: status %d; want %d", test.name, w.Code, test.status)
		}
	}
}

func TestRPCCollects(t *testing.T) {
	n := start(t, testConfig(t))
	root := add(t, n, []byte("garbage"), "pin=false&raw-leaves=true")
	kept := add(t, n, []byte("kept"), "pin=true&raw-leaves=true")
	code, body := rpc(t, n, "repo/gc")
	if code != http.StatusOK {
		t.Fatalf("repo/gc: %d %s", code, body)
	}
	removed := map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(body)); ; {
		var line struct {
			Key   map[string]string
			Error string
		}
		if err := dec.Decode(&line); err == io.EOF {
			break
		} else if err != nil || line.Error != "" {
			t.Fatalf("%v %s", err, line.Error)
		}
		removed[line.Key["/"]] = true
	}
	if !removed[root.String()] || removed[kept.String()] {
		t.Errorf("repo/gc: %s", body)
	}
	if complete, _, err := n.Complete(t.Context(), dataPin(kept)); err != nil || !complete {
		t.Errorf("collection removed a pin of the user's: %v", err)
	}
}

func TestGateway(t *testing.T) {
	n := start(t, testConfig(t))
	root := add(t, n, []byte("hello"), "raw-leaves=true")
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Host = "127.0.0.1:8080"
		n.Gateway().ServeHTTP(w, r)
		return w
	}
	if w := get("/ipfs/" + root.String()); w.Code != http.StatusOK || w.Body.String() != "hello" {
		t.Errorf("gateway: %d %s", w.Code, w.Body)
	}
	if w := get("/ipfs/nonsense"); w.Code != http.StatusBadRequest {
		t.Errorf("gateway: %d %s", w.Code, w.Body)
	}
	closed, err := New(testConfig(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []http.Handler{closed.RPC(), closed.Gateway()} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v0/id", nil))
		if w.Code != http.StatusServiceUnavailable {
			t.Errorf("before open: %d", w.Code)
		}
	}
}

func TestResolvePaths(t *testing.T) {
	n := start(t, testConfig(t))
	leaf := add(t, n, []byte("in a folder"), "raw-leaves=true&to-files=/leaf")
	_, body := rpc(t, n, "files/stat?arg=/")
	var stat struct{ Hash string }
	if err := json.Unmarshal([]byte(body), &stat); err != nil {
		t.Fatal(err)
	}
	got, err := n.Resolve(t.Context(), "/ipfs/"+stat.Hash+"/leaf")
	if err != nil || got != leaf {
		t.Errorf("resolved to %s: %v", got, err)
	}
	_, err = n.Resolve(t.Context(), "/ipfs/"+stat.Hash+"/missing")
	if api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("a missing file: %v", err)
	}
	if got == cid.Undef {
		t.Error("undefined")
	}
}
