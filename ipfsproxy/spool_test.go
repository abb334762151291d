package ipfsproxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"holdfast/api"
	"holdfast/internal/spool"
)

// wordy emits so many outputs, before it has read the upload, and does then what after says.
type wordy struct {
	outputs int
	after   func() error
}

func (a wordy) Add(_ context.Context, _ *multipart.Reader, _ api.AddParams, emit func(api.AddedOutput) error) error {
	for range a.outputs {
		if err := emit(api.AddedOutput{Name: strings.Repeat("n", 1000), Bytes: 1}); err != nil {
			return err
		}
	}
	return a.after()
}

func nothing() error { return nil }

// spoolServer waits at its close for what handles requests.
func spoolServer(t *testing.T, deps Deps) (*httptest.Server, *sync.WaitGroup) {
	t.Helper()
	cluster := newCluster()
	deps.Service, deps.Lease = cluster, cluster.lease
	if deps.Node == nil {
		deps.Node = &node{}
	}
	handler := New(deps, Config{})
	var handling sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handling.Add(1)
		defer handling.Done()
		defer func() {
			err := recover()
			if err != nil && err != http.ErrAbortHandler {
				t.Errorf("%s: %v", r.URL, err)
			}
			if err != nil {
				panic(err)
			}
		}()
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server, &handling
}

func folder(t *testing.T) *spool.Store {
	t.Helper()
	s, err := spool.Open(t.TempDir(), spool.Limits{Memory: 1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func free(t *testing.T, name string, spools *spool.Store) {
	t.Helper()
	if memory, files := spools.Used(); memory != 0 || files != 0 {
		t.Errorf("%s: %d bytes of memory and %d of files were not given back", name, memory, files)
	}
}

// memFile is a file in memory that may fail.
type memFile struct {
	data    []byte
	reading error
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.data = append(f.data[:off], p...)
	return len(p), nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	if f.reading != nil {
		return 0, f.reading
	}
	return bytes.NewReader(f.data).ReadAt(p, off)
}

func (f *memFile) Truncate(int64) error { return nil }
func (f *memFile) Close() error         { return nil }

// An add whose outputs find no room fails with its reason, and is never a
// success that is cut short.
func TestNoRoomForOutputs(t *testing.T) {
	for name, spools := range map[string]*spool.Store{
		"disk of this peer is full": spool.New(func() (spool.File, error) { return nil, syscall.ENOSPC }, spool.Limits{Memory: 1}),
		"read while you send":       spool.New(nil, spool.Limits{Memory: 1}),
		"it cannot be read":         spool.New(func() (spool.File, error) { return &memFile{reading: errors.New("it cannot be read")}, nil }, spool.Limits{Memory: 1}),
	} {
		for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
			for _, query := range []string{"", "?progress=true"} {
				server, _ := spoolServer(t, Deps{Adder: wordy{3000, nothing}, Spools: spools})
				status, body, err := rawStatus(t, server, uploadOf("/api/v0/add"+query, version, 1, "x"))
				if whole := err == nil && status == http.StatusOK; whole {
					t.Errorf("%s, %s, %q: %d with %d bytes, %v", name, version, query, status, len(body), err)
				}
				if status != http.StatusOK && !strings.Contains(body, name) {
					t.Errorf("%s, %s, %q: %d %.300q", name, version, query, status, body)
				}
				free(t, name, spools)
			}
		}
	}
}

// An answer of the node that finds no room goes to an old client as it comes.
func TestNoRoomForOldClient(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 1<<16)
	spools := spool.New(nil, spool.Limits{Memory: 100_000})
	server, _ := spoolServer(t, Deps{Spools: spools, Node: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for piece := []byte(text); len(piece) > 0; piece = piece[4096:] {
			_, _ = w.Write(piece[:4096])
		}
	})})
	status, got, err := rawStatus(t, server, "POST /api/v0/cat?arg=x HTTP/1.0\r\nHost: x\r\n\r\n")
	if err != nil || status != http.StatusOK || got != text {
		t.Errorf("%d with %d bytes, %v", status, len(got), err)
	}
	free(t, "an old client", spools)
}

// However an add ends, nothing of the budget is left behind.
func TestShareIsGivenBack(t *testing.T) {
	for name, end := range map[string]func() error{
		"the client goes": nil,
		"success":         nothing,
		"failure":         func() error { return errors.New("it broke") },
		"panic":           func() error { panic(http.ErrAbortHandler) },
	} {
		for _, version := range []string{"HTTP/1.1", "HTTP/1.0"} {
			for _, query := range []string{"", "?progress=true"} {
				spools := folder(t)
				written, gone := make(chan struct{}), make(chan struct{})
				server, handling := spoolServer(t, Deps{Spools: spools, Adder: wordy{12_000, func() error {
					close(written)
					<-gone
					if end == nil {
						return nil
					}
					return end()
				}}})
				conn, err := net.Dial("tcp", server.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.WriteString(conn, uploadOf("/api/v0/add"+query, version, 1, "x")); err != nil {
					t.Fatal(err)
				}
				<-written
				if _, files := spools.Used(); files == 0 {
					t.Errorf("%s, %s, %q: nothing was kept in a file", name, version, query)
				}
				if end == nil {
					_ = conn.Close()
				} else {
					go func() { _, _ = io.Copy(io.Discard, conn) }()
				}
				close(gone)
				handling.Wait()
				free(t, name+", "+version+", "+query, spools)
				_ = conn.Close()
			}
		}
	}
}
