package front

import (
	"container/list"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limits say how many connections an API may hold. Each takes a file
// descriptor, which Raft and the stores need as well.
type Limits struct {
	Connections int // of the API; 0: 1024
	PerAddress  int // of one address, or one /64 of IPv6; 0: half of them
}

func (l Limits) orDefaults() Limits {
	if l.Connections <= 0 {
		l.Connections = 1024
	}
	if l.PerAddress <= 0 {
		l.PerAddress = max(1, l.Connections/2)
	}
	return l
}

// split shares them among so many listeners.
func (l Limits) split(listeners int) Limits {
	if listeners > 1 {
		l.Connections = max(1, l.Connections/listeners)
		l.PerAddress = max(1, l.PerAddress/listeners)
	}
	return l
}

// refusing is how many clients are told at once that there is no room; further
// ones are hung up on.
const (
	maxRefusing   = 8
	refuseTimeout = time.Second
)

// A gate is a listener that holds a bounded number of connections. When it is
// full, a newcomer takes the place of the one that has been quiet for longest:
// that has no request running. A newcomer for whom there is no place is told so.
type gate struct {
	net.Listener
	limits   Limits
	idle     time.Duration // for a write
	refuse   func(net.Conn)
	turned   func() // is told of each client that there is no room for; nil: nobody is
	refusing sync.WaitGroup

	mu      sync.Mutex
	count   int
	quiet   list.List // of *conn, the longest quiet first
	by      map[netip.Prefix]*neighbour
	telling int       // clients that are being refused
	refused int       // since the minute began
	before  int       // in the minute before
	minute  time.Time // when the present one began
}

// neighbour is what one address has.
type neighbour struct {
	count int
	quiet list.List // of *conn, the longest quiet first
}

func newGate(l net.Listener, limits Limits, idle time.Duration, refuse func(net.Conn)) *gate {
	return &gate{Listener: l, limits: limits, idle: idle, refuse: refuse, by: map[netip.Prefix]*neighbour{}}
}

// Accept returns the next connection that there is room for.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if admitted := g.admit(c); admitted != nil {
			return admitted, nil
		}
		g.turnAway(c)
	}
}

// admit gives a connection its place, or returns nil.
func (g *gate) admit(raw net.Conn) *conn {
	c := &conn{Conn: raw, gate: g, from: addressOf(raw.RemoteAddr())}
	g.mu.Lock()
	near := g.by[c.from]
	if near == nil {
		near = &neighbour{}
	}
	victim, ok := (*conn)(nil), true
	switch {
	case c.from.IsValid() && near.count >= g.limits.PerAddress:
		victim, ok = front(&near.quiet)
	case g.count >= g.limits.Connections:
		victim, ok = front(&g.quiet)
	}
	if !ok {
		g.mu.Unlock()
		return nil
	}
	if victim != nil {
		g.leave(victim)
	}
	if g.by[c.from] == nil {
		near = &neighbour{} // the victim may have been the last of its address
		g.by[c.from] = near
	}
	g.count++
	near.count++
	c.held = true
	g.hush(c)
	g.mu.Unlock()
	if victim != nil {
		_ = victim.Conn.Close() // it had nothing to say
	}
	return c
}

func front(l *list.List) (*conn, bool) {
	if e := l.Front(); e != nil {
		return e.Value.(*conn), true
	}
	return nil, false
}

// hush notes that no request runs on a connection. The gate is locked.
func (g *gate) hush(c *conn) {
	if c.held && c.inAll == nil {
		c.inAll, c.inNear = g.quiet.PushBack(c), g.by[c.from].quiet.PushBack(c)
	}
}

// wake notes that a request runs on it. The gate is locked.
func (g *gate) wake(c *conn) {
	if c.inAll != nil {
		g.quiet.Remove(c.inAll)
		g.by[c.from].quiet.Remove(c.inNear)
		c.inAll, c.inNear = nil, nil
	}
}

// leave frees a connection's place. The gate is locked.
func (g *gate) leave(c *conn) {
	if !c.held {
		return
	}
	g.wake(c)
	c.held = false
	g.count--
	near := g.by[c.from]
	if near.count--; near.count == 0 {
		delete(g.by, c.from)
	}
}

// turnAway tells a client that there is no room, if not too many are being
// told already, and closes the connection.
func (g *gate) turnAway(c net.Conn) {
	now := time.Now()
	g.mu.Lock()
	g.turn(now)
	g.refused++
	if g.turned != nil {
		g.turned()
	}
	tell := g.telling < maxRefusing
	if tell {
		g.telling++
		g.refusing.Add(1)
	}
	g.mu.Unlock()
	if !tell {
		_ = c.Close()
		return
	}
	go func() {
		defer g.refusing.Done()
		_ = c.SetDeadline(now.Add(refuseTimeout))
		g.refuse(c)
		// What the client has sent must be read: with anything unread, the close
		// would reset the connection, and the answer might be lost.
		if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(c, 64<<10))
		}
		_ = c.Close()
		g.mu.Lock()
		g.telling--
		g.mu.Unlock()
	}()
}

// turn begins a new minute of counting. The gate is locked.
func (g *gate) turn(now time.Time) {
	passed := now.Sub(g.minute)
	if passed < time.Minute {
		return
	}
	g.before = g.refused
	if passed >= 2*time.Minute {
		g.before = 0
	}
	g.refused, g.minute = 0, now
}

// refusedLately is how many clients were turned away in this minute and the last.
func (g *gate) refusedLately(now time.Time) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.turn(now)
	return g.refused + g.before
}

// addressOf is what connections are counted by: an IPv4 address, or the /64 of
// an IPv6 address, which is what one customer gets. Clients of a unix socket
// have none, and share the limit of the listener.
func addressOf(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}

// watchState follows what the server does with a connection.
func watchState(nc net.Conn, state http.ConnState) {
	c := below(nc)
	if c == nil {
		return
	}
	switch state {
	case http.StateActive:
		c.gate.mu.Lock()
		c.gate.wake(c)
		c.gate.mu.Unlock()
	case http.StateIdle:
		c.drained()
		c.gate.mu.Lock()
		c.gate.hush(c)
		c.gate.mu.Unlock()
	}
}

// below is our connection beneath TLS.
func below(nc net.Conn) *conn {
	if secure, ok := nc.(*tls.Conn); ok {
		nc = secure.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

type connKey struct{}

func withConn(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, below(nc))
}

func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}
