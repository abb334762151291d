package restapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"holdfast/api"
	"holdfast/restapi"
	"holdfast/restapi/fake"
)

// echo answers each line with a pin of its name, and keeps what it saw.
func echo(seen *[]api.BulkLine) func(iter.Seq[api.BulkLine]) iter.Seq[api.BulkResult] {
	return func(lines iter.Seq[api.BulkLine]) iter.Seq[api.BulkResult] {
		return func(yield func(api.BulkResult) bool) {
			for line := range lines {
				if seen != nil {
					*seen = append(*seen, line)
				}
				result := api.BulkResult{Line: line.Line, Cid: line.Cid, Err: line.Err, Index: uint64(line.Line),
					Pin: api.Pin{Cid: line.Cid, Type: api.TypeData, PinOptions: line.Options}}
				if !yield(result) {
					return
				}
			}
		}
	}
}

func TestBulkLines(t *testing.T) {
	var seen []api.BulkLine
	long := `{"cid":"` + cidA.String() + `","name":"` + strings.Repeat("x", api.MaxBulkLine) + `"}`
	body := strings.Join([]string{
		`{"cid":"` + cidA.String() + `","name":"first","replication_factor_min":2,"replication_factor_max":3,"metadata":{"k":"v"}}`,
		``, `  `,
		`{"unpin":"` + cidB.String() + `"}`,
		`{"cid":"no CID"}`, `{"cid":`, `[1]`, `{"cid":"` + cidA.String() + `","nmae":"x"}`, long,
		`{"path":"/ipfs/` + cidA.String() + `/a/b"}`, `{"path":"/ipfs/` + cidA.String() + `"}`,
		`{"cid":"` + cidA.String() + `","unpin":"` + cidA.String() + `"}`, `{"cid":"` + cidA.String() + `","type":"shard-pin"}`,
		`{"cid":"` + cidA.String() + `","name":7}`, `{"cid":"` + cidA.String() + `","name":"last, without newline"}`}, "\n")
	resp, got := ask(t, &fake.Service{OnBulk: echo(&seen)}, "POST", "/pins?line=100", "application/x-ndjson; charset=utf-8", body)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("%s %s: %s", resp.Status, resp.Header.Get("Content-Type"), got)
	}
	if resp.Trailer.Get("X-Cluster-Index") != "114" || resp.Trailer.Get("X-Stream-Error") != "" {
		t.Errorf("trailers %v", resp.Trailer)
	}
	answers := strings.Split(strings.TrimSpace(got), "\n")
	want := []struct {
		line int
		code api.Code
		text string
	}{
		{100, "", `"name":"first"`}, {103, "", cidB.String()}, {104, api.CodeInvalid, "is not a CID"}, {105, api.CodeInvalid, "ends in the middle"},
		{106, api.CodeInvalid, "JSON array"}, {107, api.CodeInvalid, `unknown field \"nmae\"`}, {108, api.CodeTooLarge, "more than"},
		{109, "", `"cid":null`}, {110, "", cidA.String()}, {111, api.CodeInvalid, "one of"}, {112, api.CodeInvalid, "shard-pin"},
		{113, api.CodeInvalid, `\"name\" cannot be a JSON number`}, {114, "", "without newline"}}
	if len(answers) != len(want) || len(seen) != len(want) {
		t.Fatalf("%d answers to %d lines:\n%s", len(answers), len(seen), got)
	}
	for i, w := range want {
		var body struct {
			Error *struct {
				Code   int
				Reason api.Code
			}
			Line int
		}
		if err := json.Unmarshal([]byte(answers[i]), &body); err != nil {
			t.Fatal(err)
		}
		if seen[i].Line != w.line || !strings.Contains(answers[i], w.text) {
			t.Errorf("line %d: %s", seen[i].Line, answers[i])
		}
		if (body.Error != nil) != (w.code != "") || body.Error != nil && (body.Error.Reason != w.code || body.Line != w.line || body.Error.Code != w.code.HTTPStatus()) {
			t.Errorf("line %d: %s", w.line, answers[i])
		}
	}
	if o := seen[0].Options; o.ReplicationFactorMin != 2 || o.ReplicationFactorMax != 3 || o.Metadata["k"] != "v" {
		t.Errorf("options %+v", o)
	}
	if !seen[1].Unpin || seen[7].Path != "/ipfs/"+cidA.String()+"/a/b" || seen[8].Cid != cidA {
		t.Errorf("lines %+v", seen)
	}
}

func TestBulkRefusals(t *testing.T) {
	for _, test := range []struct{ target, kind, body, want string }{
		{"/pins", "application/json", "{}", "one JSON object per line"},
		{"/pins", "", "{}", "one JSON object per line"},
		{"/pins?line=-1", "application/x-ndjson", "{}", "line"},
	} {
		resp, body := ask(t, &fake.Service{OnBulk: echo(nil)}, "POST", test.target, test.kind, test.body)
		if resp.StatusCode != 400 || !strings.Contains(body, test.want) {
			t.Errorf("%+v: %s %s", test, resp.Status, body)
		}
	}
	if resp, body := ask(t, &fake.Service{OnBulk: echo(nil)}, "POST", "/pins", "application/x-ndjson", "\n\n"); resp.StatusCode != 204 || body != "" {
		t.Errorf("no lines: %s %s", resp.Status, body)
	}
}

// The same body under the same key brings the same request ids, from wherever
// it goes on; another key, place or content brings others.
func TestBulkRequestIDs(t *testing.T) {
	a, b := `{"cid":"`+cidA.String()+`"}`, `{"cid":"`+cidB.String()+`"}`
	ids := func(key, target, body string) (out []string) {
		var seen []api.BulkLine
		service := &fake.Service{OnBulk: echo(&seen)}
		server := &http.Server{Handler: restapi.New(service, service, restapi.Config{})}
		c := pipeClient(t, server)
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://peer"+target, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-ndjson")
		req.Header.Set("Idempotency-Key", key)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		for _, line := range seen {
			out = append(out, line.RequestID)
		}
		return out
	}
	first := ids("k", "/pins", a+"\n"+a+"\n"+b+"\n")
	again := ids("k", "/pins", a+"\n"+a+"\n"+b+"\n")
	resumed := ids("k", "/pins?line=2", a+"\n"+b+"\n")
	other := ids("l", "/pins", a+"\n"+a+"\n"+b+"\n")
	changed := ids("k", "/pins", b+"\n"+a+"\n"+b+"\n")
	if len(first) != 3 || first[0] == first[1] || first[0] != again[0] || first[2] != again[2] {
		t.Errorf("%v, again %v", first, again)
	}
	if resumed[0] != first[1] || resumed[1] != first[2] {
		t.Errorf("resumed %v of %v", resumed, first)
	}
	if other[0] == first[0] || changed[0] == first[0] || changed[1] != first[1] {
		t.Errorf("other key %v, changed %v, first %v", other, changed, first)
	}
}

// pipeClient talks to a server over a connection that holds nothing: what is not
// read blocks its writer.
func pipeClient(t *testing.T, server *http.Server) *http.Client {
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		near, far := net.Pipe()
		select {
		case l.conns <- far:
			return near, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		<-done
	})
	return &http.Client{Transport: transport}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// bulkConversation opens a bulk write over a pipe.
func bulkConversation(t *testing.T, handler http.Handler, body io.Reader) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://peer/pins", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := pipeClient(t, &http.Server{Handler: handler}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// A result comes before the next line is sent.
func TestBulkAnswersWhileItReads(t *testing.T) {
	service := &fake.Service{OnBulk: echo(nil)}
	reader, writer := io.Pipe()
	go fmt.Fprintf(writer, `{"cid":"%s","name":"0"}`+"\n", cidA)
	resp := bulkConversation(t, restapi.New(service, service, restapi.Config{}), reader)
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for i := range 5 {
		line, err := in.ReadString('\n')
		if err != nil || !strings.Contains(line, fmt.Sprintf(`"name":"%d"`, i)) {
			t.Fatalf("%q %v", line, err)
		}
		if _, err := fmt.Fprintf(writer, `{"cid":"%s","name":"%d"}`+"\n", cidA, i+1); err != nil {
			t.Fatal(err)
		}
	}
	writer.Close()
	if rest, err := io.ReadAll(in); err != nil || bytes.Count(rest, []byte("\n")) != 1 {
		t.Errorf("%q %v", rest, err)
	}
}

// A client that takes no results is not read on, however much it has to send.
func TestBulkHoldsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken atomic.Int64
		service := &fake.Service{}
		service.OnBulk = func(lines iter.Seq[api.BulkLine]) iter.Seq[api.BulkResult] {
			return func(yield func(api.BulkResult) bool) {
				for result := range echo(nil)(lines) {
					taken.Add(1)
					if !yield(result) {
						return
					}
				}
			}
		}
		const total = 20_000
		name := strings.Repeat("n", 900)
		reader, writer := io.Pipe()
		sent := make(chan error, 1)
		go func() {
			for range total {
				if _, err := fmt.Fprintf(writer, `{"cid":"%s","name":"%s"}`+"\n", cidA, name); err != nil {
					sent <- err
					return
				}
			}
			sent <- writer.Close()
		}()
		resp := bulkConversation(t, restapi.New(service, service, restapi.Config{}), reader)
		defer resp.Body.Close()
		synctest.Wait() // nothing moves any more
		if n := taken.Load(); n == 0 || n > 2_000 {
			t.Errorf("%d lines were taken in before any result was read", n)
		}
		lines := bufio.NewScanner(resp.Body)
		n := 0
		for lines.Scan() {
			n++
		}
		if err := errors.Join(lines.Err(), <-sent); err != nil || n != total {
			t.Errorf("%d results, %v", n, err)
		}
	})
}

// A client that goes away ends the request, also while it is waited for.
func TestBulkDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		service := &fake.Service{}
		service.OnBulk = func(lines iter.Seq[api.BulkLine]) iter.Seq[api.BulkResult] {
			return func(yield func(api.BulkResult) bool) {
				defer close(ended)
				for result := range echo(nil)(lines) {
					if !yield(result) {
						return
					}
				}
			}
		}
		reader, writer := io.Pipe()
		go fmt.Fprintf(writer, `{"cid":"%s"}`+"\n"+`{"cid":`, cidA)
		resp := bulkConversation(t, restapi.New(service, service, restapi.Config{}), reader)
		if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		writer.CloseWithError(errors.New("gone"))
		resp.Body.Close()
		<-ended
	})
}
