package client

import (
	"context"
	"net"
	"sync"
	"time"
)

// lastWordWait is how long a connection that takes no more may still have
// something to say.
const lastWordWait = 5 * time.Second

type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// hearing makes connections that hold the error of a write back until the
// other side has said its last word. A peer may refuse an upload while it still
// goes on, and net/http drops the answer when a write fails before it was read.
func hearing(dial dialer) dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &lastWordConn{Conn: conn, silent: make(chan struct{})}, nil
	}
}

type lastWordConn struct {
	net.Conn
	once   sync.Once
	silent chan struct{} // closed when nothing more can be read
}

func (c *lastWordConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.once.Do(func() { close(c.silent) })
	}
	return n, err
}

func (c *lastWordConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		timer := time.NewTimer(lastWordWait)
		defer timer.Stop()
		select {
		case <-c.silent:
		case <-timer.C:
		}
	}
	return n, err
}

func (c *lastWordConn) Close() error {
	c.once.Do(func() { close(c.silent) })
	return c.Conn.Close()
}
