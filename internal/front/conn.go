package front

import (
	"container/list"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	// writePiece must have left within the idle time, or have made way.
	writePiece = 64 << 10
	// leastProgress is what a reader must take in that time when the piece has
	// not left: the system may hold megabytes for it, and asks for more only when
	// a good part of them is gone.
	leastProgress = 4 << 10
)

// conn is a connection that counts at its gate, and whose writes end when the
// other side takes nothing any more. Reads have the deadlines that the server
// and the handlers set, since only they know what they wait for.
type conn struct {
	net.Conn
	gate *gate
	from netip.Prefix

	// Guarded by the gate.
	held          bool
	inAll, inNear *list.Element // while it is quiet

	mu      sync.Mutex
	writeBy time.Time // the server's own deadline for writes; zero: none
	set     time.Time // when a deadline for writes was last set
	drainBy time.Time // while a request's rest is read: what no deadline means
	broken  bool      // that rest did not come, so nothing behind it is a request
}

// SetLinger says what becomes of the connection when it is closed, as that of
// net.TCPConn; others have no such choice.
func (c *conn) SetLinger(sec int) error {
	if lingering, ok := c.Conn.(interface{ SetLinger(sec int) error }); ok {
		return lingering.SetLinger(sec)
	}
	return nil
}

// Write gives up when nothing leaves for the idle time.
func (c *conn) Write(p []byte) (int, error) {
	written := 0
	for {
		piece := p[written:min(len(p), written+writePiece)]
		n, err := c.writeOnce(piece)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// writeOnce waits for half the idle time, and for as much again as long as the
// other side takes anything of what the system holds for it.
func (c *conn) writeOnce(piece []byte) (int, error) {
	written, waiting := 0, -1
	for {
		if err := c.renew(waiting >= 0); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(piece[written:])
		written += n
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || c.closing() {
			return written, err
		}
		left, known := queued(c.Conn)
		progress := left <= waiting+n-leastProgress
		if !known {
			progress = n > 0
		}
		if waiting >= 0 && !progress {
			return written, err
		}
		waiting = left
	}
}

// renew puts the deadline for writes off, if it was not done a moment ago.
func (c *conn) renew(now bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.writeBy.IsZero() {
		return nil
	}
	at := time.Now()
	if !now && at.Sub(c.set) < c.gate.idle/16 {
		return nil
	}
	c.set = at
	return c.Conn.SetWriteDeadline(at.Add(c.gate.idle / 2))
}

// closing says that the server has set a deadline of its own.
func (c *conn) closing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.writeBy.IsZero()
}

// SetWriteDeadline sets the server's own deadline, which goes before ours.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeBy = t
	if t.IsZero() {
		c.set = time.Time{} // the next write sets ours
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetReadDeadline sets the server's deadline. While the rest of a request is
// read, none means soon.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.IsZero() {
		t = c.drainBy
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline sets both.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// drain bounds the time for what the server reads of a request that its handler
// has left, until the next one.
func (c *conn) drain(by time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drainBy = by
	return c.Conn.SetReadDeadline(by)
}

// drained ends that, and the connection if the rest did not come.
func (c *conn) drained() {
	c.mu.Lock()
	c.drainBy = time.Time{}
	broken := c.broken
	c.mu.Unlock()
	if broken {
		_ = c.Close()
	}
}

// Read notes when the rest of a request did not come in time.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.mu.Lock()
		c.broken = c.broken || !c.drainBy.IsZero() && !time.Now().Before(c.drainBy)
		c.mu.Unlock()
	}
	return n, err
}

// CloseWrite ends our direction, so that the server can say something last.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close also frees its place.
func (c *conn) Close() error {
	c.gate.mu.Lock()
	c.gate.leave(c)
	c.gate.mu.Unlock()
	return c.Conn.Close()
}
