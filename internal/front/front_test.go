package front

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/api"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// quick are deadlines short enough for tests.
var quick = Timeouts{Idle: 300 * time.Millisecond, Pause: 300 * time.Millisecond, Trickle: 600 * time.Millisecond, Drain: 300 * time.Millisecond}

// open runs a front until the test ends.
func open(t *testing.T, handler http.HandlerFunc, change func(*API, *Shared)) *Front {
	t.Helper()
	a := API{Name: "test", Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Deny: DenyREST, Open: func(r *http.Request) bool { return r.URL.Path == "/health" }}
	logger := slog.New(slog.DiscardHandler)
	s := Shared{Guard: NewGuard(Access{}, logger), Outside: func() *api.Error { return nil }, Logger: logger}
	if change != nil {
		change(&a, &s)
	}
	f, err := Open(a, s)
	if err != nil {
		t.Fatal(err)
	}
	f.Ready(handler)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

func address(f *Front, i int) (network, addr string) {
	a := f.gates[i].Addr()
	return a.Network(), a.String()
}

// dial opens a raw connection and closes it with the test.
func dial(t *testing.T, f *Front, from string) net.Conn {
	t.Helper()
	var dialer net.Dialer
	if from != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	network, addr := address(f, 0)
	c, err := dialer.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c net.Conn) *http.Response {
	t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	return response
}

// await returns what comes from a channel.
func await[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case got := <-from:
		return got
	case <-time.After(patience):
		t.Fatalf("%s: nothing came within %s", what, patience)
		panic("unreachable")
	}
}

const plainGet = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

// Connections that ask nothing make way, whether they never did or not any more.
func TestQuietConnectionsMakeWay(t *testing.T) {
	f := open(t, hello, func(_ *API, s *Shared) { s.Limits = Limits{Connections: 8, PerAddress: 8} })
	var kept []net.Conn
	for i := range 40 {
		c := dial(t, f, "")
		if i%2 == 0 {
			send(t, c, plainGet)
			if got := receive(t, c); got.StatusCode != http.StatusOK {
				t.Fatalf("connection %d: %s", i, got.Status)
			}
		}
		kept = append(kept, c)
	}
	if n := f.gates[0].held(); n > 8 {
		t.Errorf("%d connections are held", n)
	}
	if _, err := kept[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the longest quiet connection is open: %v", err)
	}
	if problems := f.Conditions(); len(problems) > 0 {
		t.Errorf("nobody was turned away: %v", problems)
	}
}

func (g *gate) held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

// A listener that is full of running requests says so to the next client, and
// one address cannot fill it.
func TestFullListener(t *testing.T) {
	release, running := make(chan struct{}), make(chan struct{}, 8)
	f := open(t, func(w http.ResponseWriter, r *http.Request) {
		running <- struct{}{}
		<-release
	}, func(_ *API, s *Shared) { s.Limits = Limits{Connections: 5, PerAddress: 3} })
	defer close(release)
	for range 3 {
		send(t, dial(t, f, ""), plainGet)
		await(t, "a request", running)
	}
	refused := dial(t, f, "")
	send(t, refused, plainGet)
	if got := receive(t, refused); got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
		t.Errorf("one connection too many of an address: %s %v", got.Status, got.Header)
	}
	for range 2 {
		send(t, dial(t, f, "127.0.0.2"), plainGet)
		await(t, "a request from another address", running)
	}
	refused = dial(t, f, "127.0.0.3")
	send(t, refused, plainGet)
	if got := receive(t, refused); got.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one connection too many: %s", got.Status)
	}
	if problems := f.Conditions(); len(problems) != 1 || !strings.Contains(problems[0].Message, "2 connections") {
		t.Errorf("conditions %v", problems)
	}
}

// endless writes until it cannot.
func endless(ended chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		chunk := bytes.Repeat([]byte("x"), 256<<10)
		for {
			if _, err := w.Write(chunk); err != nil {
				ended <- err
				return
			}
		}
	}
}

// clients are the ways to reach a front.
func eachWay(t *testing.T, test func(t *testing.T, change func(*API, *Shared), client *http.Client, base func(*Front) string)) {
	for _, secure := range []bool{false, true} {
		name := map[bool]string{false: "HTTP/1", true: "HTTP/2"}[secure]
		t.Run(name, func(t *testing.T) {
			transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: secure}
			t.Cleanup(transport.CloseIdleConnections)
			change := func(_ *API, s *Shared) {
				s.Timeouts = quick
				if secure {
					s.Certificate = newCertificate(t, filepath.Join(t.TempDir(), "tls"), time.Hour*24*90).load(t)
				}
			}
			base := func(f *Front) string {
				_, addr := address(f, 0)
				return map[bool]string{false: "http://", true: "https://"}[secure] + addr
			}
			test(t, change, &http.Client{Transport: transport}, base)
		})
	}
}

// A client that stops reading ends its request, and not that of another one on
// the same connection.
func TestClientThatStopsReading(t *testing.T) {
	eachWay(t, func(t *testing.T, change func(*API, *Shared), client *http.Client, base func(*Front) string) {
		ended := make(chan error, 1)
		f := open(t, endless(ended), change)
		response, err := client.Get(base(f))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if err := await(t, "the end of the answer", ended); err == nil {
			t.Error("written without an error")
		}
	})
}

// A client that reads slowly, but reads, is served to the end.
func TestSlowReader(t *testing.T) {
	const size = 16 << 20
	f := open(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, size)) },
		func(_ *API, s *Shared) { s.Timeouts = Timeouts{Idle: 2 * time.Second} })
	c := dial(t, f, "")
	send(t, c, plainGet)
	response := receive(t, c)
	pause := time.NewTicker(quick.Idle / 4)
	defer pause.Stop()
	total := int64(0)
	for {
		n, err := io.CopyN(io.Discard, response.Body, 2<<20)
		if total += n; err != nil {
			break
		}
		<-pause.C
	}
	if total != size {
		t.Errorf("got %d of %d bytes", total, size)
	}
}

// A client that stops sending ends its request: its reader gets an error, and
// with it what was held for it is free.
func TestClientThatStopsSending(t *testing.T) {
	eachWay(t, func(t *testing.T, change func(*API, *Shared), client *http.Client, base func(*Front) string) {
		ended := make(chan error, 1)
		f := open(t, func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			ended <- err
			hello(w, r)
		}, change)
		body, input := io.Pipe()
		defer input.Close()
		go func() {
			_, _ = input.Write(make([]byte, 600<<10)) // and no more
		}()
		go func() {
			if response, err := client.Post(base(f), "text/plain", body); err == nil {
				_ = response.Body.Close()
			}
		}()
		if err := await(t, "the end of the request", ended); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("ended with %v", err)
		}
	})
}

// A client that sends a byte now and then is no better.
func TestTrickle(t *testing.T) {
	ended := make(chan error, 1)
	f := open(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	}, func(_ *API, s *Shared) { s.Timeouts = quick })
	c := dial(t, f, "")
	send(t, c, "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n")
	pause := time.NewTicker(quick.Idle / 6)
	defer pause.Stop()
	for {
		select {
		case err := <-ended:
			if api.CodeOf(err) != api.CodeInvalid {
				t.Errorf("ended with %v", err)
			}
			return
		case <-pause.C:
			_, _ = c.Write([]byte("x"))
		case <-time.After(patience):
			t.Fatal("the trickle is read for ever")
		}
	}
}

// What computes for long is left alone, also behind a request body that was
// read or was not; and the connection can be used again.
func TestLongWorkIsLeftAlone(t *testing.T) {
	eachWay(t, func(t *testing.T, change func(*API, *Shared), client *http.Client, base func(*Front) string) {
		f := open(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/unread" {
				_, _ = io.Copy(io.Discard, r.Body)
			}
			if r.URL.Path == "/begun" || r.URL.Path == "/unread" {
				_ = http.NewResponseController(w).Flush()
			}
			select {
			case <-time.After(2 * quick.Idle):
				hello(w, r)
			case <-r.Context().Done():
				_, _ = io.WriteString(w, "cut off: "+context.Cause(r.Context()).Error())
			}
		}, change)
		var all sync.WaitGroup
		for _, path := range []string{"/", "/begun", "/unread"} {
			all.Go(func() {
				response, err := client.Post(base(f)+path, "text/plain", strings.NewReader("some words"))
				if err != nil {
					t.Error(path, err)
					return
				}
				got, err := io.ReadAll(response.Body)
				_ = response.Body.Close()
				if err != nil || string(got) != "hello" {
					t.Errorf("%s: %q, %v", path, got, err)
				}
			})
		}
		all.Wait()
	})
}

// A request whose body pauses while nothing is held for it goes on.
func TestPatientRequest(t *testing.T) {
	f := open(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		got, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %v", got, err)
	}, func(a *API, s *Shared) {
		s.Timeouts = quick
		a.Patient = func(r *http.Request) bool { return r.URL.Path == "/bulk" }
	})
	c := dial(t, f, "")
	send(t, c, "POST /bulk HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\na")
	response := receive(t, c)
	<-time.After(3 * quick.Idle)
	send(t, c, "b")
	if got, err := io.ReadAll(io.LimitReader(response.Body, 8)); err != nil || string(got) != "ab <nil>" {
		t.Errorf("got %q, %v", got, err)
	}
}

// The rest of a request that its handler did not read is not waited for long.
func TestRestOfARequest(t *testing.T) {
	for _, duplex := range []bool{false, true} {
		f := open(t, func(w http.ResponseWriter, r *http.Request) {
			if duplex {
				_ = http.NewResponseController(w).EnableFullDuplex()
			}
			hello(w, r)
		}, func(_ *API, s *Shared) { s.Timeouts = quick })
		c := dial(t, f, "")
		send(t, c, "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello")
		if got, err := io.ReadAll(c); err != nil || !strings.Contains(string(got), "hello") {
			t.Errorf("duplex %v: %q, %v", duplex, got, err)
		}
	}
}

// TestSeveralListeners: TCP and unix, with TLS and without.
func TestSeveralListeners(t *testing.T) {
	for _, secure := range []bool{false, true} {
		dir := t.TempDir()
		socket := filepath.Join(dir, "api.sock")
		leaveStale(t, socket)
		f := open(t, hello, func(a *API, s *Shared) {
			a.Listen = []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.2/tcp/0", "/unix" + socket}
			if secure {
				s.Certificate = newCertificate(t, filepath.Join(dir, "tls"), 90*24*time.Hour).load(t)
			}
		})
		if len(f.Addrs()) != 3 {
			t.Fatalf("listens on %v", f.Addrs())
		}
		for i := range f.gates {
			network, addr := address(f, i)
			transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					var dialer net.Dialer
					return dialer.DialContext(ctx, network, addr)
				}}
			scheme := map[bool]string{false: "http", true: "https"}[secure]
			host := map[bool]string{false: "127.0.0.1", true: "any.name.example"}[network == "unix"]
			response, err := (&http.Client{Transport: transport}).Get(scheme + "://" + host + "/")
			if err != nil {
				t.Errorf("secure %v, %s: %v", secure, addr, err)
				continue
			}
			if _ = response.Body.Close(); response.StatusCode != http.StatusOK {
				t.Errorf("secure %v, %s: %s", secure, addr, response.Status)
			}
		}
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm()&^socketMode != 0 {
			t.Errorf("the socket: %v, %v", info.Mode(), err)
		}
	}
}

// leaveStale makes a socket as a killed process leaves it.
func leaveStale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// A socket that is in use, and a file that is none, are left alone.
func TestSocketInUse(t *testing.T) {
	dir := t.TempDir()
	used := filepath.Join(dir, "used")
	l, err := net.Listen("unix", used)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{used, file} {
		if l, err := ListenUnix(path, socketMode); err == nil {
			t.Errorf("listens on %s", path)
			_ = l.Close()
		}
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}

// pair is a certificate's files.
type pair struct{ cert, key string }

func newCertificate(t *testing.T, base string, valid time.Duration) pair {
	t.Helper()
	p := pair{base + ".pem", base + ".key"}
	p.write(t, valid)
	return p
}

func (p pair) write(t *testing.T, valid time.Duration) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "peer"},
		NotBefore: time.Now().Add(-100 * 24 * time.Hour), NotAfter: time.Now().Add(valid)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{p.cert: {Type: "CERTIFICATE", Bytes: der}, p.key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func (p pair) load(t *testing.T) *Certificate {
	t.Helper()
	c, err := LoadCertificate(p.cert, p.key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
