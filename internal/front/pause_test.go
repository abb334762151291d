package front

import (
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/api"
	"holdfast/ipfsproxy"
	"holdfast/restapi"
)

// readsAll is an adder that reads the whole upload.
type readsAll struct{}

func (readsAll) Add(_ context.Context, upload *multipart.Reader, _ api.AddParams, _ func(api.AddedOutput) error) error {
	for {
		part, err := upload.NextPart()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			_, err = io.Copy(io.Discard, part)
		}
		if err != nil {
			return err
		}
	}
}

// An upload whose source pauses for too long ends with an error that says so
// and names the setting, whichever API it came to.
func TestPausedUploadSaysSo(t *testing.T) {
	for path, handler := range map[string]http.Handler{
		"/add":        restapi.New(nil, readsAll{}, restapi.Config{}),
		"/api/v0/add": ipfsproxy.New(ipfsproxy.Deps{Adder: readsAll{}, Node: http.HandlerFunc(hello)}, ipfsproxy.Config{}),
	} {
		f := open(t, handler.ServeHTTP, func(_ *API, s *Shared) { s.Timeouts = quick })
		c := dial(t, f, "")
		send(t, c, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n"+
			"--b\r\nContent-Disposition: form-data; name=file; filename=f\r\n\r\nthe beginning", path))
		response := receive(t, c)
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode < 400 || !strings.Contains(string(text), "sent nothing") || !strings.Contains(string(text), "http.upload_pause (300ms)") {
			t.Errorf("%s: %s %s, %v", path, response.Status, text, err)
		}
	}
}

// pausing is a connection's control and a body in one: each read waits, or ends
// with the deadline.
type pausing struct {
	http.ResponseWriter
	pauses []time.Duration
	by     time.Time
}

func (p *pausing) SetReadDeadline(t time.Time) error { p.by = t; return nil }
func (p *pausing) Close() error                      { return nil }

func (p *pausing) Read(b []byte) (int, error) {
	if len(p.pauses) == 0 {
		return 0, io.EOF
	}
	pause := p.pauses[0]
	p.pauses = p.pauses[1:]
	if left := time.Until(p.by); !p.by.IsZero() && left < pause {
		time.Sleep(left)
		return 0, os.ErrDeadlineExceeded
	}
	time.Sleep(pause)
	return copy(b, "x"), nil
}

// How long a source may pause is the setting's; answers have a time of their own.
func TestPauseIsASetting(t *testing.T) {
	for _, test := range []struct {
		timeouts Timeouts
		pauses   []time.Duration
		whole    bool
	}{
		{Timeouts{}, []time.Duration{50 * time.Second, 50 * time.Second}, true},
		{Timeouts{}, []time.Duration{70 * time.Second}, false},
		{Timeouts{Pause: 5 * time.Minute}, []time.Duration{4 * time.Minute, 4 * time.Minute}, true},
		{Timeouts{Pause: 5 * time.Minute}, []time.Duration{6 * time.Minute}, false},
		{Timeouts{Pause: 5 * time.Minute}, []time.Duration{4 * time.Minute, 4 * time.Minute, 4 * time.Minute}, false}, // next to nothing
		{Timeouts{Pause: 2 * time.Hour}, []time.Duration{time.Hour, time.Hour}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &pausing{pauses: test.pauses}
			b := &body{ReadCloser: p, control: http.NewResponseController(p), timeouts: test.timeouts.orDefaults()}
			_, err := io.Copy(io.Discard, b)
			if (err == nil) != test.whole {
				t.Errorf("%+v, pauses %v: %v", test.timeouts, test.pauses, err)
			}
			if got := test.timeouts.orDefaults().Idle; got != time.Minute {
				t.Errorf("%+v: answers may stand still for %s", test.timeouts, got)
			}
		})
	}
}
