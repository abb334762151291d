package libp2ptransport

import (
	"errors"
	"fmt"
	"net"

	"github.com/ugorji/go/codec"

	"holdfast/internal/msgpack"
)

// What a message of raft may be: as many entries of the log as are sent at once,
// each as large as one may be, with room to spare.
var messageLimits = msgpack.Limits{Depth: 16, Cost: 128 << 20}

const (
	// installSnapshot is the kind of the one request that bytes follow.
	installSnapshot = 2
	maxSnapshotHead = 1 << 20
)

var (
	errNoMember = errors.New("the peer is no member any more")
	errHead     = errors.New("the head of a snapshot is not understood")
)

// guardedConn ends before a message that raft's decoder could not bear: it has
// no limits of its own, and who may speak at all is not who may do harm.
type guardedConn struct {
	net.Conn
	scanner *msgpack.Scanner
	failed  error
	// Of a connection that serves: each message follows a byte that says its kind,
	// and the caller is to be a member still.
	serves  bool
	allowed func() bool
	kind    byte
	inside  bool   // the kind has come
	head    []byte // of a snapshot, as far as it has come
	raw     int64  // bytes of a snapshot that are still to come
}

func guardServed(conn net.Conn, allowed func() bool) net.Conn {
	return &guardedConn{Conn: conn, scanner: msgpack.NewScanner(messageLimits), serves: true, allowed: allowed}
}

func guardDialed(conn net.Conn) net.Conn {
	return &guardedConn{Conn: conn, scanner: msgpack.NewScanner(messageLimits)}
}

// Reset ends the stream at once.
func (c *guardedConn) Reset() error {
	if stream, ok := c.Conn.(interface{ Reset() error }); ok {
		return stream.Reset()
	}
	return c.Close()
}

// Read returns what has come, up to the first thing that is refused.
func (c *guardedConn) Read(p []byte) (int, error) {
	if c.failed != nil {
		return 0, c.failed
	}
	n, err := c.Conn.Read(p)
	good, refused := c.check(p[:n])
	if refused != nil {
		c.failed = fmt.Errorf("raft with peer %s: %w", c.RemoteAddr(), refused)
		if good == 0 {
			return 0, c.failed
		}
		return good, nil
	}
	return n, err
}

func (c *guardedConn) check(data []byte) (good int, err error) {
	for good < len(data) {
		if c.raw > 0 {
			n := min(c.raw, int64(len(data)-good))
			c.raw -= n
			good += int(n)
			continue
		}
		if c.serves && !c.inside {
			if !c.allowed() {
				return good, errNoMember
			}
			c.kind, c.inside = data[good], true
			good++
			continue
		}
		n, ended, err := c.scanner.Next(data[good:])
		if err != nil {
			return good + n, err
		}
		if c.serves && c.kind == installSnapshot {
			if c.head = append(c.head, data[good:good+n]...); len(c.head) > maxSnapshotHead {
				return good, errHead
			}
		}
		good += n
		if !ended || !c.serves {
			continue
		}
		c.inside = false
		if c.kind == installSnapshot {
			var head struct{ Size int64 }
			if err := codec.NewDecoderBytes(c.head, new(codec.MsgpackHandle)).Decode(&head); err != nil || head.Size < 0 {
				return good, errHead
			}
			c.raw, c.head = head.Size, nil
		}
	}
	return good, nil
}
