package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"holdfast/client"
)

// debugClient makes an HTTP client that tells of every request.
func (p *program) debugClient(config client.Config) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config.TLS
	return &http.Client{
		Transport:     &debugTransport{next: transport, out: p.err},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// debugTransport writes a line for each request, without headers: they may
// hold credentials.
type debugTransport struct {
	next http.RoundTripper
	out  io.Writer
}

// RoundTrip carries out a request and tells of it.
func (d *debugTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := d.next.RoundTrip(r)
	outcome := ""
	if err != nil {
		outcome = err.Error()
	} else {
		outcome = resp.Status + " (request " + resp.Header.Get("X-Request-Id") + ")"
	}
	fmt.Fprintf(d.out, "%s %s: %s after %s\n", r.Method, r.URL.Redacted(), sentence(outcome), time.Since(began).Round(time.Millisecond))
	return resp, err
}
