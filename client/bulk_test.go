package client_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/client"
	"holdfast/restapi"
	"holdfast/restapi/fake"
)

// bulkPeers are peers that remember request ids together, as a cluster does.
type bulkPeers struct {
	mu    sync.Mutex
	ids   map[string]int // by request id: the line
	codes []api.Code     // of the next lines; "": carried out
}

func (b *bulkPeers) bulk(lines iter.Seq[api.BulkLine]) iter.Seq[api.BulkResult] {
	return func(yield func(api.BulkResult) bool) {
		for line := range lines {
			if !yield(b.one(line)) {
				return
			}
		}
	}
}

func (b *bulkPeers) one(line api.BulkLine) api.BulkResult {
	b.mu.Lock()
	defer b.mu.Unlock()
	result := api.BulkResult{Line: line.Line, Cid: line.Cid, Err: line.Err, Pin: api.Pin{Cid: line.Cid, PinOptions: line.Options}}
	if len(b.codes) > 0 {
		code := b.codes[0]
		b.codes = b.codes[1:]
		if code != "" {
			result.Err = api.Errorf(code, "so it is")
		}
	}
	if result.Err == nil {
		b.ids[line.RequestID] = line.Line
	}
	return result
}

func numbered(n int) iter.Seq[api.BulkLine] {
	return func(yield func(api.BulkLine) bool) {
		for i := range n {
			if !yield(api.BulkLine{Cid: cidA, Options: api.PinOptions{Name: fmt.Sprint("pin ", i+1)}}) {
				return
			}
		}
	}
}

// cutter breaks the connection after some bytes of an answer, as often as it is told.
type cutter struct {
	http.Handler
	mu    sync.Mutex
	after []int
}

func (c *cutter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	var left *int
	if len(c.after) > 0 {
		left = &c.after[0]
		c.after = c.after[1:]
	}
	c.mu.Unlock()
	if left == nil {
		c.Handler.ServeHTTP(w, r)
		return
	}
	c.Handler.ServeHTTP(&cutWriter{ResponseWriter: w, left: left}, r)
	panic(http.ErrAbortHandler)
}

type cutWriter struct {
	http.ResponseWriter
	left *int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) > *w.left {
		p = p[:*w.left]
	}
	*w.left -= len(p)
	n, _ := w.ResponseWriter.Write(p)
	_ = http.NewResponseController(w.ResponseWriter).Flush()
	if *w.left == 0 {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func (w *cutWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Connections that break cost nothing but time: every line has one result, in
// order, and every repeat the request id that it had before.
func TestBulkOverBrokenConnections(t *testing.T) {
	peers := &bulkPeers{ids: map[string]int{}}
	cut := &cutter{after: []int{0, 1, 1000, 100_000, 0, 33_333}}
	service := &fake.Service{OnBulk: peers.bulk}
	cut.Handler = restapi.New(service, service, restapi.Config{})
	var addrs []string
	for range 2 {
		server := httptest.NewServer(cut)
		defer server.Close()
		addrs = append(addrs, server.URL)
	}
	c := must(client.New(client.Config{Addrs: addrs, Timeout: time.Minute}))
	c.RetryAtOnce()
	n := 0
	for result, err := range c.Bulk(t.Context(), numbered(5_000), "key") {
		if err != nil {
			t.Fatal(err)
		}
		n++
		pin, err := result.Pin()
		if result.Line != n || result.Err != nil || err != nil || pin.Name != fmt.Sprint("pin ", n) {
			t.Fatalf("result %d: line %d %v, %s", n, result.Line, result.Err, result.JSON)
		}
	}
	peers.mu.Lock()
	defer peers.mu.Unlock()
	if n != 5_000 || len(peers.ids) != 5_000 {
		t.Errorf("%d results, %d request ids", n, len(peers.ids))
	}
}

// Lines that this side refuses, lines that the peer refuses, and lines that
// find no leader at first, all in their places.
func TestBulkLineErrors(t *testing.T) {
	peers := &bulkPeers{ids: map[string]int{}, codes: []api.Code{"", api.CodeNotEnoughPeers, api.CodeNoLeader, "", api.CodeUnknownOutcome, api.CodeUnavailable}}
	c := serve(t, &fake.Service{OnBulk: peers.bulk})
	c.RetryAtOnce()
	lines := []api.BulkLine{{Line: 3, Cid: cidA}, {Line: 4, Cid: cidA}, {Line: 10, Cid: cidB}, {Line: 11, Err: api.Errorf(api.CodeInvalid, "local")},
		{Line: 20, Cid: cidA, Unpin: true}}
	var got []string
	for result, err := range c.Bulk(t.Context(), slices.Values(lines), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(result.Line, " ", result.Err))
	}
	if want := []string{"3 <nil>", "4 so it is", "10 <nil>", "11 local", "20 <nil>"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	peers.mu.Lock()
	defer peers.mu.Unlock()
	seen := slices.Collect(maps.Values(peers.ids))
	for _, line := range []int{3, 10, 20} {
		if !slices.Contains(seen, line) {
			t.Errorf("the peer did not see line %d", line)
		}
	}
}

// A peer that refuses the whole, none that is there, and a caller that has
// enough.
func TestBulkEnds(t *testing.T) {
	c := must(client.New(client.Config{Addrs: []string{"http://127.0.0.1:1"}}))
	c.RetryAtOnce()
	for _, err := range c.Bulk(t.Context(), numbered(1), "") {
		if api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("nobody there: %v", err)
		}
	}
	for range c.Bulk(t.Context(), numbered(0), "") {
		t.Error("no line has a result")
	}
	peers := &bulkPeers{ids: map[string]int{}}
	c = serve(t, &fake.Service{OnBulk: peers.bulk})
	for range c.Bulk(t.Context(), numbered(1_000_000), "") {
		break
	}
	long := strings.Repeat("k", 300)
	for _, err := range c.Bulk(t.Context(), numbered(1), long) {
		if err == nil {
			t.Errorf("a key of %d bytes was accepted", len(long))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err := range c.Bulk(ctx, numbered(1_000_000), "") {
		if n++; n == 10 {
			cancel()
		}
		if err != nil && api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("canceled: %v", err)
		}
	}
}
