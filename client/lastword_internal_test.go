package client

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/api"
)

// refusingConn breaks for writing in the middle of an upload; what the peer has
// said arrives a moment later.
type refusingConn struct {
	net.Conn
	wrote  int
	broken chan struct{}
	said   io.Reader
}

func (c *refusingConn) Write(p []byte) (int, error) {
	if c.wrote += len(p); c.wrote < 1<<20 {
		return len(p), nil
	}
	select {
	case <-c.broken:
	default:
		close(c.broken)
	}
	return 0, syscall.EPIPE
}

func (c *refusingConn) Read(p []byte) (int, error) {
	<-c.broken
	time.Sleep(time.Second)
	return c.said.Read(p)
}

func (c *refusingConn) Close() error { return nil }

// A refusal is heard although the upload breaks before it arrives.
func TestRefusalAfterABrokenWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const body = `{"code":507,"message":"the disk is full","reason":"no_space"}`
		transport := newTransport(nil, func(context.Context, string, string) (net.Conn, error) {
			return &refusingConn{broken: make(chan struct{}),
				said: strings.NewReader("HTTP/1.1 507 Insufficient Storage\r\nConnection: close\r\n\r\n" + body)}, nil
		})
		defer transport.CloseIdleConnections()
		c, err := New(Config{Addrs: []string{"http://127.0.0.1:9094"}})
		if err != nil {
			t.Fatal(err)
		}
		c.targets[0].http.Transport = transport
		err = c.Add(t.Context(), bytes.NewReader(make([]byte, 4<<20)), "multipart/form-data; boundary=x", api.NewAddParams(), nil)
		if api.CodeOf(err) != api.CodeNoSpace {
			t.Error(err)
		}
	})
}
