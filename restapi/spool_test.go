package restapi_test

import (
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	"holdfast/api"
	"holdfast/internal/spool"
	"holdfast/restapi"
	"holdfast/restapi/fake"
)

// adds emits so many outputs and does then what after says.
func adds(outputs int, after func() error) *fake.Service {
	return &fake.Service{OnAdd: func(_ *multipart.Reader, _ api.AddParams, emit func(api.AddedOutput) error) error {
		for range outputs {
			if err := emit(api.AddedOutput{Name: strings.Repeat("n", 1000), Cid: cidA}); err != nil {
				return err
			}
		}
		return after()
	}}
}

func nothing() error { return nil }

func serverWith(t *testing.T, service *fake.Service, spools *spool.Store) *httptest.Server {
	server := httptest.NewServer(restapi.New(service, service, restapi.Config{Spools: spools}))
	t.Cleanup(server.Close)
	return server
}

func folder(t *testing.T, limits spool.Limits) *spool.Store {
	t.Helper()
	s, err := spool.Open(t.TempDir(), limits)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An answer for which there is no room has the status that says why.
func TestNoRoomForAnAnswer(t *testing.T) {
	full := spool.New(func() (spool.File, error) { return nil, syscall.ENOSPC }, spool.Limits{})
	other := folder(t, spool.Limits{Memory: 1, Files: 2 << 20, Each: 2 << 20})
	waits := other.New()
	if _, err := waits.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		spools *spool.Store
		status int
		text   string
	}{
		"the disk is full":        {full, http.StatusInsufficientStorage, "disk of this peer is full"},
		"others take the budget":  {other, http.StatusServiceUnavailable, "try again later"},
		"it is too long":          {folder(t, spool.Limits{Each: 1 << 20}), http.StatusRequestEntityTooLarge, "1.0 MiB"},
		"memory alone, too small": {spool.New(nil, spool.Limits{}), http.StatusServiceUnavailable, "read while you send"},
	} {
		for _, query := range []string{"", "?stream-channels=false"} {
			contentType, body := upload(1, 1)
			resp, err := http.Post(serverWith(t, adds(3000, nothing), test.spools).URL+"/add"+query, contentType, strings.NewReader(string(body)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != test.status || !strings.Contains(string(got), test.text) {
				t.Errorf("%s, %q: %d %.200q, %v", name, query, resp.StatusCode, got, err)
			}
		}
	}
	waits.Close()
	if memory, files := other.Used(); memory != 0 || files != 0 {
		t.Errorf("%d bytes of memory and %d of files were not given back", memory, files)
	}
}

// A client that goes away, or whose add ends in any other way, leaves nothing
// of the budget behind.
func TestShareIsGivenBack(t *testing.T) {
	for name, end := range map[string]func() error{
		"the client goes": nil,
		"success":         nothing,
		"failure":         func() error { return errors.New("it broke") },
		"panic":           func() error { panic(http.ErrAbortHandler) },
	} {
		for _, query := range []string{"", "?progress=true", "?stream-channels=false"} {
			spools := folder(t, spool.Limits{Memory: 1 << 20})
			written, gone := make(chan struct{}), make(chan struct{})
			var handling sync.WaitGroup
			service := adds(20_000, func() error {
				close(written)
				<-gone
				if end == nil {
					return nil
				}
				return end()
			})
			handler := restapi.New(service, service, restapi.Config{Spools: spools})
			handling.Add(1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer handling.Done()
				handler.ServeHTTP(w, r)
			}))
			conn := connect(t, server)
			contentType, body := upload(1, 1)
			send(t, conn, "/add"+query, contentType, body)
			<-written
			if _, files := spools.Used(); files == 0 {
				t.Errorf("%s, %q: nothing was kept in a file", name, query)
			}
			if end == nil {
				_ = conn.Close()
			} else {
				go func() { _, _ = io.Copy(io.Discard, conn) }()
			}
			close(gone)
			handling.Wait()
			server.Close()
			if memory, files := spools.Used(); memory != 0 || files != 0 {
				t.Errorf("%s, %q: %d bytes of memory and %d of files were not given back", name, query, memory, files)
			}
		}
	}
}
