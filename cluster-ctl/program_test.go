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

func TestTextOfBenchmarks(t *testing.T) {
	for want, result := range map[string]benchResult{
		"pins: 4 in 2.00 s with 64 clients: 2/s, p50 1.50 ms, p99 2.00 ms, max 3.0 ms\n":        {Name: "pins", Clients: 64, Count: 4, Seconds: 2, PerSecond: 2, P50: 1.5, P99: 2, Max: 3},
		"bulk: 4 in 2.00 s with 1 client: 2/s, 3.0 ms between two results at most\n":            {Name: "bulk", Clients: 1, Count: 4, Seconds: 2, PerSecond: 2, Max: 3},
		"add: 1 in 2.00 s with 1 client: 1/s, p50 2.00 ms, p99 2.00 ms, max 2.0 ms, 0.5 MB/s\n": {Name: "add", Clients: 1, Count: 1, Bytes: 1e6, Seconds: 2, PerSecond: 0.75, P50: 2, P99: 2, Max: 2},
	} {
		var out strings.Builder
		if textBench(&out, result); out.String() != want {
			t.Errorf("%q, not %q", out.String(), want)
		}
	}
}
