package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/restapi"
)

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel() // the user presses ^C while the peer is silent
		<-r.Context().Done()
	}))
	defer server.Close()
	var out, errOut bytes.Buffer
	p := &program{in: strings.NewReader(""), out: &out, err: &errOut}
	if code := p.run(ctx, []string{"cluster-ctl", "--host", server.URL, "id"}); code != exitCanceled {
		t.Errorf("exit code %d, want %d; %s", code, exitCanceled, errOut.String())
	}
	if out.Len() > 0 {
		t.Errorf("printed %q", out.String())
	}
}

func TestProgressIsDrawnAside(t *testing.T) {
	fake := newFakeCluster()
	server := httptest.NewServer(restapi.New(fake, fake, restapi.Config{}))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	p := &program{in: strings.NewReader(""), out: &out, err: &errOut, terminal: true}
	if code := p.run(t.Context(), []string{"cluster-ctl", "--host", server.URL, "add", file}); code != exitOK {
		t.Fatalf("exit code %d: %s", code, errOut.String())
	}
	if lines := strings.Count(out.String(), "\n"); lines != 1 || !strings.HasPrefix(out.String(), "added ") {
		t.Errorf("standard output is %q", out.String())
	}
	if !strings.Contains(errOut.String(), "sent ") {
		t.Errorf("no progress on the error stream: %q", errOut.String())
	}
}
