package front

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/spool"
	"holdfast/ipfsproxy"
)

// breaksOff is a node whose answer fails after so many bytes.
func breaksOff(size int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Trailer", "X-Stream-Error")
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, strings.Repeat("x", size))
		w.Header().Set("X-Stream-Error", "a block is missing")
	})
}

// INV-END: an answer that breaks off is no whole one to a client, whatever is
// between it and the proxy: one of HTTP/1.0 sees a reset, since the end of the
// connection is the end of its answers, and one of HTTP/1.1 no last chunk. What
// a client gets of it, and the connection's place, are as they should be.
func TestCutIsNoEnd(t *testing.T) {
	certificate := newCertificate(t, t.TempDir(), time.Hour).load(t)
	noRoom := spool.New(nil, spool.Limits{Memory: 1}) // so that nothing waits for its end
	for _, secure := range []bool{false, true} {
		for _, version := range []string{"1.0", "1.1"} {
			for _, body := range []string{"", "a body"} {
				for _, size := range []int{100, 1 << 20} {
					name := fmt.Sprintf("TLS %t, HTTP/%s, %d bytes of a request, %d of an answer", secure, version, len(body), size)
					f := open(t, ipfsproxy.New(ipfsproxy.Deps{Node: breaksOff(size), Spools: noRoom}, ipfsproxy.Config{}).ServeHTTP, func(_ *API, s *Shared) {
						s.Limits = Limits{Connections: 4, PerAddress: 2}
						if secure {
							s.Certificate = certificate
						}
					})
					for range 5 { // more than there are places
						plain := dial(t, f, "")
						var c net.Conn = plain
						if secure {
							c = tls.Client(plain, &tls.Config{InsecureSkipVerify: true})
						}
						send(t, c, fmt.Sprintf("POST /api/v0/cat?arg=x HTTP/%s\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s", version, len(body), body))
						got, err := answerOf(c)
						if err == nil {
							t.Errorf("%s: a clean end after %d bytes", name, got)
						}
						if version == "1.0" && !errors.Is(err, syscall.ECONNRESET) {
							t.Errorf("%s: no reset but %v", name, err)
						}
						if version == "1.1" && got != size {
							t.Errorf("%s: %d bytes came, then %v", name, got, err)
						}
						_ = c.Close()
					}
				}
			}
		}
	}
}

// answerOf reads to the end of an answer, or to where it breaks off.
func answerOf(c net.Conn) (bytes int, err error) {
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err // a reset takes along what was not read
	}
	n, err := io.Copy(io.Discard, response.Body)
	return int(n), err
}
