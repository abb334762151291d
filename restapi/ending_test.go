package restapi_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/restapi"
	"holdfast/restapi/fake"
)

// dial opens a connection to a server of the API, for clients that are not
// net/http's.
func dial(t *testing.T, service *fake.Service) net.Conn {
	t.Helper()
	server := httptest.NewServer(restapi.New(service, service, restapi.Config{}))
	t.Cleanup(server.Close)
	return connect(t, server)
}

func connect(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second)) // of a test that hangs
	return conn
}

func readResponse(t *testing.T, conn net.Conn) (*http.Response, string, error) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp, string(data), err
}

// INV-END: a client that asked for nothing sees no clean end after an error.
func TestNoCleanEndAfterAnError(t *testing.T) {
	broke := api.Errorf(api.CodeNoSpace, "the disk broke")
	fails := true
	service := &fake.Service{
		OnAllocations: func(api.PinFilter) iter.Seq2[api.Pin, error] {
			if fails {
				return fake.Yields(broke, fullPin())
			}
			return fake.Yields(nil, fullPin(), fullPin())
		}}
	get := func(version, header string) (*http.Response, string, error) {
		conn := dial(t, service)
		fmt.Fprintf(conn, "GET /allocations HTTP/%s\r\nHost: localhost\r\n%s\r\n", version, header)
		return readResponse(t, conn)
	}
	if resp, body, err := get("1.1", ""); err == nil || resp.StatusCode != 200 || strings.Count(body, "\n") != 1 {
		t.Errorf("HTTP/1.1: %d %q, %v", resp.StatusCode, body, err)
	}
	if resp, body, err := get("1.1", "TE: trailers\r\n"); err != nil || resp.Trailer.Get("X-Stream-Error") != "the disk broke" {
		t.Errorf("HTTP/1.1 with trailers: %v %q, %v", resp.Trailer, body, err)
	}
	if resp, body, err := get("1.0", ""); err != nil || resp.StatusCode != 507 || !strings.Contains(body, "the disk broke") {
		t.Errorf("HTTP/1.0: %d %q, %v", resp.StatusCode, body, err)
	}
	mark := `{"end":true,"error":{"code":507,"message":"the disk broke","reason":"no_space"}}` + "\n"
	for _, version := range []string{"1.0", "1.1"} {
		if resp, body, err := get(version, "X-Stream-End: true\r\n"); err != nil || !strings.HasSuffix(body, "\n"+mark) || resp.Header.Get("X-Stream-End") != "true" {
			t.Errorf("HTTP/%s with the mark: %d %q, %v", version, resp.StatusCode, body, err)
		}
	}
	fails = false
	if resp, body, err := get("1.0", ""); err != nil || resp.ContentLength != int64(len(body)) || strings.Count(body, "\n") != 2 {
		t.Errorf("HTTP/1.0: length %d %q, %v", resp.ContentLength, body, err)
	}
	if resp, body, err := get("1.1", ""); err != nil || strings.Contains(body, `"end"`) || resp.Header.Get("X-Stream-End") != "" {
		t.Errorf("HTTP/1.1: %q, %v", body, err)
	}
}

// upload is a form with many small files.
func upload(files, size int) (contentType string, body []byte) {
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	content := make([]byte, size)
	for i := range files {
		part, _ := w.CreateFormFile("file", fmt.Sprintf("folder/%d", i))
		_, _ = part.Write(content)
	}
	_ = w.Close()
	return w.FormDataContentType(), buf.Bytes()
}

// post sends a whole request before it reads a byte of the answer.
func post(t *testing.T, conn net.Conn, target, contentType string, body []byte) (*http.Response, string, error) {
	t.Helper()
	send(t, conn, target, contentType, body)
	return readResponse(t, conn)
}

func send(t *testing.T, conn net.Conn, target, contentType string, body []byte) {
	t.Helper()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", target, contentType, len(body))
	if _, err := conn.Write(body); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// A client that sends everything before it reads gets every output.
func TestAddSendsBeforeItReads(t *testing.T) {
	const files = 60_000
	service := &fake.Service{OnAdd: func(r *multipart.Reader, _ api.AddParams, emit func(api.AddedOutput) error) error {
		for {
			part, err := r.NextPart()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := emit(api.AddedOutput{Name: part.FileName(), Cid: cidA}); err != nil {
				return err
			}
		}
	}}
	contentType, body := upload(files, 1)
	for _, query := range []string{"", "?progress=true", "?stream-channels=false"} {
		resp, got, err := post(t, dial(t, service), "/add"+query, contentType, body)
		if n := strings.Count(got, `"cid"`); err != nil || resp.StatusCode != 200 || n != files {
			t.Errorf("%q: %d with %d outputs, %v", query, resp.StatusCode, n, err)
		}
	}
}

// An error that is known early reaches a client that still sends.
func TestEarlyErrorIsHeard(t *testing.T) {
	service := &fake.Service{OnAdd: func(r *multipart.Reader, _ api.AddParams, emit func(api.AddedOutput) error) error {
		if _, err := r.NextPart(); err != nil {
			return err
		}
		return api.Errorf(api.CodeNoSpace, "the disk is full")
	}}
	contentType, body := upload(16, 1<<20)
	for i := range 20 {
		for _, target := range []string{"/add", "/add?chunker=", "/add?progress=true", "/add?layout=wrong", "/nowhere", "/pins"} {
			resp, got, err := post(t, dial(t, service), target, contentType, body)
			if err != nil || resp.StatusCode < 400 || !strings.Contains(got, `"message"`) {
				t.Fatalf("%s, the %dth time: %d %q, %v", target, i, resp.StatusCode, got, err)
			}
		}
	}
}
