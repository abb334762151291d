package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCredentialsFromFile runs cluster-ctl as it runs in a container.
func TestCredentialsFromFile(t *testing.T) {
	var user, password string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ = r.BasicAuth()
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte("admin:a:b,other:c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CLUSTER_FORCE_HTTP", "true")
	run := func(path string) (int, string) {
		t.Setenv("CLUSTER_CREDENTIALS_FILE", path)
		var out bytes.Buffer
		p := &program{in: strings.NewReader(""), out: &out, err: &out}
		return p.run(t.Context(), []string{"cluster-ctl", "--host", server.URL, "health"}), out.String()
	}
	if code, out := run(file); code != 0 || user != "admin" || password != "a:b" {
		t.Errorf("exit %d, user %q, password %q: %s", code, user, password, out)
	}
	if code, out := run(file + "x"); code != 1 || !strings.Contains(out, "CLUSTER_CREDENTIALS_FILE") {
		t.Errorf("without the file: exit %d: %s", code, out)
	}
}
