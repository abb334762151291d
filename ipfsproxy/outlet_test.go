package ipfsproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdfast/api"
)

// raw sends a request as it is, all of it before it reads, and returns the
// body as a client that knows no trailers sees it. The error is not nil when
// the answer was cut off.
func raw(t *testing.T, server *httptest.Server, request string) (string, error) {
	t.Helper()
	_, body, err := rawStatus(t, server, request)
	return body, err
}

func rawStatus(t *testing.T, server *httptest.Server, request string) (int, string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatalf("while sending: %v", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

const form = "Content-Type: multipart/form-data; boundary=b\r\n"

// uploadOf is a request with many files.
func uploadOf(target, version string, files int, content string) string {
	var body strings.Builder
	for i := range files {
		fmt.Fprintf(&body, "--b\r\nContent-Disposition: form-data; name=file; filename=f%d\r\n\r\n%s\r\n", i, content)
	}
	body.WriteString("--b--\r\n")
	return fmt.Sprintf("POST %s %s\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", target, version, form, body.Len(), body.String())
}

// eager emits an output for each file as it comes, and fails when it wants to.
type eager struct{ failAfter int }

func (e eager) Add(_ context.Context, upload *multipart.Reader, _ api.AddParams, emit func(api.AddedOutput) error) error {
	for n := 0; ; n++ {
		if e.failAfter == n {
			return errors.New("it broke")
		}
		part, err := upload.NextPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			_, err = io.Copy(io.Discard, part)
		}
		if err == nil {
			err = emit(api.AddedOutput{Name: strings.Repeat("n", 200) + part.FileName(), Bytes: 1})
		}
		if err != nil {
			return err
		}
	}
}

func eagerServer(t *testing.T, failAfter int) *httptest.Server {
	cluster := newCluster()
	server := httptest.NewServer(New(Deps{Service: cluster, Adder: eager{failAfter}, Node: &node{}, Lease: cluster.lease}, Config{}))
	t.Cleanup(server.Close)
	return server
}

// TestErrorsArrive checks that no client takes a failed add for a success,
// whatever it knows of trailers, and that it sees the message.
func TestErrorsArrive(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
		for _, query := range []string{"", "?progress=true", "?progress=true&encoding=text"} {
			for _, after := range []int{0, 1, 60} { // in the middle of the upload
				status, body, err := rawStatus(t, eagerServer(t, after), uploadOf("/api/v0/add"+query, version, 100, strings.Repeat("x", 50_000)))
				whole := err == nil && status == http.StatusInternalServerError
				cut := err != nil && status == http.StatusOK && version == "HTTP/1.1" && strings.Contains(query, "progress") && after > 0
				if !whole && !cut {
					t.Errorf("%s add%s, fails after %d: %d %v", version, query, after, status, err)
				}
				if !strings.Contains(query, "text") && !strings.Contains(body, `"Message":"it broke"`) {
					t.Errorf("%s add%s, fails after %d: no message in %q", version, query, after, body[max(0, len(body)-200):])
				}
			}
		}
	}
}

// TestSendsBeforeItReads checks that a client that sends everything before it
// reads gets every output.
func TestSendsBeforeItReads(t *testing.T) {
	const files = 20_000 // 6 MB of outputs, more than the connection holds
	for _, query := range []string{"", "?progress=true"} {
		body, err := raw(t, eagerServer(t, -1), uploadOf("/api/v0/add"+query, "HTTP/1.1", files, "x"))
		if n := strings.Count(body, "\n"); n != files || err != nil {
			t.Errorf("add%s: %d outputs, %v", query, n, err)
		}
	}
}

// TestNodeBreaks checks that an answer of the node that breaks off is no whole
// one to a client without trailers.
func TestNodeBreaks(t *testing.T) {
	for _, kind := range []string{"application/json", "text/plain"} {
		s := newSetup(t)
		s.node.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.Header().Set("Trailer", streamError)
			w.Header().Set("X-Chunked-Output", "1")
			_, _ = io.WriteString(w, "{}\n")
			w.(http.Flusher).Flush()
			w.Header().Set(streamError, "a block is missing")
		}
		if got, err := raw(t, s.server, "POST /api/v0/refs?arg=x HTTP/1.1\r\nHost: x\r\n\r\n"); err == nil || kind == "application/json" && !strings.Contains(got, "a block is missing") {
			t.Errorf("%s: %q, %v", kind, got, err)
		}
		if status, got, err := rawStatus(t, s.server, "POST /api/v0/refs?arg=x HTTP/1.0\r\nHost: x\r\n\r\n"); err != nil || status != 500 || !strings.Contains(got, "a block is missing") {
			t.Errorf("HTTP/1.0, %s: %d %q, %v", kind, status, got, err)
		}
	}
}

// TestLongAnswerToOldClient checks that a client with HTTP/1.0 gets an answer
// of any length, and in order.
func TestLongAnswerToOldClient(t *testing.T) {
	s := newSetup(t)
	line := strings.Repeat("x", 999)
	s.node.answer = func(w http.ResponseWriter, _ *http.Request) {
		for i := range 3000 {
			fmt.Fprintf(w, "%04d%s\n", i, line)
		}
	}
	got, err := raw(t, s.server, "POST /api/v0/cat?arg=x HTTP/1.0\r\nHost: x\r\n\r\n")
	if err != nil || len(got) != 3000*1004 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for i, text := range strings.Split(strings.TrimSpace(got), "\n") {
		if text != fmt.Sprintf("%04d%s", i, line) {
			t.Fatalf("line %d is %.10q", i, text)
		}
	}
}
