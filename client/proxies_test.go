package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"holdfast/api"
	"holdfast/client"
	"holdfast/restapi"
	"holdfast/restapi/fake"
)

// between is a proxy between a client and a peer, which changes what passes.
type between struct {
	name string
	// answer changes what the peer answered.
	answer func(*http.Response)
	// whole: it reads the whole request before it asks the peer.
	whole bool
	// cuts: the end of the answer never arrives.
	cuts bool
}

func noTrailers(resp *http.Response) {
	resp.Trailer = nil
	resp.Header.Del("Trailer")
	resp.Body = noTrailerBody{resp.Body, resp}
}

// noTrailerBody forgets the trailers that come with the end of the body.
type noTrailerBody struct {
	io.ReadCloser
	resp *http.Response
}

func (b noTrailerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.resp.Trailer = nil
	return n, err
}

// politeBody ends cleanly where the peer's answer broke off, and may lose the
// last line.
type politeBody struct {
	from io.ReadCloser
	lose bool
	rest *bytes.Reader
}

func (b *politeBody) Read(p []byte) (int, error) {
	if b.rest == nil {
		data, _ := io.ReadAll(b.from)
		if b.lose {
			data = data[:bytes.LastIndexByte(bytes.TrimRight(data, "\n"), '\n')+1]
		}
		b.rest = bytes.NewReader(data)
	}
	return b.rest.Read(p)
}

func (b *politeBody) Close() error { return b.from.Close() }

var proxies = []between{
	{name: "none"},
	{name: "drops trailers", answer: noTrailers},
	{name: "buffers requests and drops trailers", answer: noTrailers, whole: true},
	{name: "ends cleanly whatever happens", answer: func(resp *http.Response) {
		noTrailers(resp)
		resp.Body = &politeBody{from: resp.Body}
	}},
	{name: "strips headers that it does not know", answer: func(resp *http.Response) {
		noTrailers(resp)
		resp.Header.Del("X-Stream-End")
	}},
	{name: "cuts the end off", cuts: true, answer: func(resp *http.Response) {
		noTrailers(resp)
		resp.ContentLength = -1
		resp.Header.Del("Content-Length")
		resp.Body = &politeBody{from: resp.Body, lose: true}
	}},
}

func (p between) before(t *testing.T, peer string) string {
	target, err := url.Parse(peer)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	proxy.ModifyResponse = func(resp *http.Response) error {
		if p.answer != nil && resp.StatusCode == http.StatusOK {
			p.answer(resp)
		}
		return nil
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		if p.whole {
			data, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func failing[T any](item T, fails bool) iter.Seq2[T, error] {
	if fails {
		return fake.Yields[T](errBroke, item)
	}
	return fake.Yields(nil, item, item)
}

var errBroke = api.Errorf(api.CodeNoSpace, "the disk broke")

// INV-END: every stream is whole for its client or fails, whatever stands
// between it and the peer.
func TestEveryStreamStatesItsEnd(t *testing.T) {
	for _, fails := range []bool{false, true} {
		service := &fake.Service{
			OnAllocations: func(api.PinFilter) iter.Seq2[api.Pin, error] { return failing(api.Pin{Cid: cidA}, fails) },
			OnStatusAll: func(api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
				return failing(api.GlobalPinInfo{Cid: cidA}, fails)
			},
			OnRecoverAll: func(bool) iter.Seq2[api.GlobalPinInfo, error] { return failing(api.GlobalPinInfo{Cid: cidA}, fails) },
			OnPeers:      func() iter.Seq2[api.ID, error] { return failing(api.ID{ID: peerA}, fails) },
			OnChanges: func(context.Context, uint64, bool) iter.Seq2[api.PinChange, error] {
				return failing(api.PinChange{Index: 3, Cid: cidA, Removed: true}, fails)
			},
			OnAdd: func(r *multipart.Reader, _ api.AddParams, emit func(api.AddedOutput) error) error {
				for {
					if _, err := r.NextPart(); err != nil {
						break
					}
				}
				for _, err := range failing(0, fails) {
					if err == nil {
						err = emit(api.AddedOutput{Cid: cidA})
					}
					if err != nil {
						return err
					}
				}
				return nil
			},
		}
		peer := httptest.NewServer(restapi.New(service, service, restapi.Config{}))
		t.Cleanup(peer.Close)
		for _, p := range proxies {
			c, err := client.New(client.Config{Addrs: []string{p.before(t, peer.URL)}})
			if err != nil {
				t.Fatal(err)
			}
			c.RetryAtOnce()
			for name, read := range streams(t.Context(), c) {
				n, err := read()
				switch {
				case fails && (err == nil || !p.cuts && err.Error() != "the disk broke"):
					t.Errorf("%s, %s: %d results, then %v", name, p.name, n, err)
				case !fails && p.cuts && err == nil && !strings.HasSuffix(name, "array"):
					t.Errorf("%s, %s: %d results and no error", name, p.name, n)
				case !fails && !p.cuts && (err != nil || n != 2):
					t.Errorf("%s, %s: %d results, then %v", name, p.name, n, err)
				}
			}
		}
	}
}

// streams reads every stream of the API and counts its results.
func streams(ctx context.Context, c *client.Client) map[string]func() (int, error) {
	adds := func(progress, stream bool) func() (int, error) {
		return func() (n int, err error) {
			params := api.NewAddParams()
			params.Progress, params.StreamChannels = progress, stream
			contentType, body := oneFile()
			err = c.Add(ctx, body, contentType, params, func(api.AddedOutput) error { n++; return nil })
			return n, err
		}
	}
	return map[string]func() (int, error){
		"allocations":  func() (int, error) { return count(c.Allocations(ctx, api.PinFilter{})) },
		"status":       func() (int, error) { return count(c.StatusAll(ctx, api.StatusQuery{})) },
		"recover":      func() (int, error) { return count(c.RecoverAll(ctx, false)) },
		"peers":        func() (int, error) { return count(c.Peers(ctx)) },
		"changes":      func() (int, error) { return count(c.Changes(ctx, 0, false)) },
		"add":          adds(false, true),
		"watched add":  adds(true, true),
		"add an array": adds(false, false),
	}
}

func count[T any](items iter.Seq2[T, error]) (n int, err error) {
	for _, err = range items {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func oneFile() (string, io.Reader) {
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	part, _ := w.CreateFormFile("file", "f")
	_, _ = io.WriteString(part, "content")
	_ = w.Close()
	return w.FormDataContentType(), &body
}

// A peer that knows of no end mark says in its trailer that all went well.
func TestOlderPeersStateTheEndInTheTrailer(t *testing.T) {
	for trailer, whole := range map[string]bool{"": true, "none": false, "it broke": false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Stream-Error")
			fmt.Fprintf(w, "{\"cid\":%q}\n", cidA)
			if trailer != "none" {
				w.Header().Set("X-Stream-Error", trailer)
			}
		}))
		defer server.Close()
		c, err := client.New(client.Config{Addrs: []string{server.URL}})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := count(c.Allocations(t.Context(), api.PinFilter{})); n != 1 || (err == nil) != whole {
			t.Errorf("trailer %q: %d, %v", trailer, n, err)
		}
	}
}

// What a peer says before it resets the connection is heard, although the
// upload fails at the same time.
func TestLastWordOfAPeer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const said = `{"code":507,"message":"the disk is full","reason":"no_space"}`
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			var buf [4096]byte
			_, _ = conn.Read(buf[:])
			fmt.Fprintf(conn, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 507 Insufficient Storage\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(said), said)
			_ = conn.Close() // with much unread: a reset
		}
	}()
	for range 100 {
		c, err := client.New(client.Config{Addrs: []string{"http://" + listener.Addr().String()}})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Add(t.Context(), bytes.NewReader(make([]byte, 16<<20)), "multipart/form-data; boundary=x", api.NewAddParams(),
			func(api.AddedOutput) error { return errors.New("an output") })
		if err == nil || err.Error() != "the disk is full" {
			t.Fatal(err)
		}
	}
}
