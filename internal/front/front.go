package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	manet "github.com/multiformats/go-multiaddr/net"

	"holdfast/api"
	"holdfast/internal/drain"
)

// Limits of every HTTP listener. Headers are large because a list of CIDs may
// stand in the request line.
const (
	maxHeaderBytes    = 1 << 20
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	drainTimeout      = 5 * time.Second
	maxStreams        = 100 // requests at once on one HTTP/2 connection
)

// API is one of a peer's HTTP APIs.
type API struct {
	Name   string   // as in its setting NAME.listen
	Listen []string // multiaddrs, TCP and unix
	Hint   string   // what to do when an address is taken
	Deny   func(http.ResponseWriter, *api.Error)
	// Open are requests that anybody may make, under any name of this peer; nil: none.
	Open func(*http.Request) bool
	// Public answers what Open selects when not everybody may know everything, and
	// whoever asks has not said who they are; nil: the API itself does.
	Public http.Handler
	// Health answers what Open selects while the peer answers nothing else: it
	// starts, or is outside; nil: nothing does.
	Health http.Handler
	// Tells are requests that a peer which is outside answers as ever; nil: none.
	Tells func(*http.Request) bool
	// Patient are requests whose body may pause for as long as it likes, because
	// nothing is held for them; nil: none.
	Patient func(*http.Request) bool

	refused func(reason string) // is told of what is refused; nil: nobody is
}

// Shared is what the APIs of one peer have in common.
type Shared struct {
	Guard       *Guard
	Certificate *Certificate      // nil: no TLS
	Outside     func() *api.Error // why the peer answers nothing; nil: it does
	Limits      Limits
	Timeouts    Timeouts
	Events      Events
	Logger      *slog.Logger
}

// Front is one HTTP API of the peer. Its listeners are open from the start,
// and it answers 503 until it is given its handler. The zero value listens
// nowhere.
type Front struct {
	api      API
	shared   Shared
	gates    []*gate
	handler  atomic.Pointer[http.Handler]
	server   *http.Server
	stopping chan struct{} // closed when requests that would never end shall
}

// Open listens on the addresses of an API; a busy one is named.
func Open(a API, shared Shared) (*Front, error) {
	shared.Timeouts = shared.Timeouts.orDefaults()
	a.refused = func(reason string) { shared.Events.refused(a.Name, reason) }
	f := &Front{api: a, shared: shared, stopping: make(chan struct{})}
	limits := shared.Limits.orDefaults().split(len(a.Listen))
	for _, text := range a.Listen {
		l, err := listen(text)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s cannot listen on %s: %w%s", a.Name, text, err, a.Hint), f.close())
		}
		f.gates = append(f.gates, newGate(l, limits, shared.Timeouts.Idle, f.refuse))
		f.gates[len(f.gates)-1].turned = func() { a.refuse(RefusedConnections) }
	}
	inner := drain.Handler(shared.Guard.wrap(a, http.HandlerFunc(f.serve)))
	f.server = &http.Server{Handler: f.observe(shared.Timeouts.wrap(a.Patient, inner)), MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout,
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		ConnContext: withConn, ConnState: watchState,
		ErrorLog: slog.NewLogLogger(shared.Logger.With("api", a.Name).Handler(), slog.LevelDebug)}
	f.server.RegisterOnShutdown(sync.OnceFunc(func() { close(f.stopping) }))
	if shared.Certificate != nil {
		f.server.TLSConfig = &tls.Config{GetCertificate: shared.Certificate.get, MinVersion: tls.VersionTLS12}
	}
	return f, nil
}

func (f *Front) serve(w http.ResponseWriter, r *http.Request) {
	why, handler := f.shared.Outside(), f.handler.Load()
	switch {
	case handler != nil && (why == nil || f.api.Tells != nil && f.api.Tells(r)):
		(*handler).ServeHTTP(w, r)
	case f.api.Health != nil && f.api.Open(r):
		f.api.Health.ServeHTTP(w, r)
	case why != nil:
		f.api.Deny(w, why)
	default:
		w.Header().Set("Retry-After", "1")
		f.api.Deny(w, api.Errorf(api.CodeUnavailable, "not ready: this peer is starting"))
	}
}

// Ready lets requests through.
func (f *Front) Ready(handler http.Handler) { f.handler.Store(&handler) }

// Stopping is closed when requests that would never end by themselves shall.
func (f *Front) Stopping() <-chan struct{} { return f.stopping }

// Run serves until ctx ends, then lets running requests finish for a while.
func (f *Front) Run(ctx context.Context) error {
	failed := make(chan error, len(f.gates))
	for _, g := range f.gates {
		go func() {
			if f.shared.Certificate != nil {
				failed <- f.server.ServeTLS(g, "", "")
			} else {
				failed <- f.server.Serve(g)
			}
		}()
	}
	var err error
	served := 0
	select {
	case err = <-failed:
		served++
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if f.server.Shutdown(drain) != nil {
		_ = f.server.Close() // requests that do not end are cut off
	}
	for ; served < len(f.gates); served++ {
		<-failed
	}
	for _, g := range f.gates {
		g.refusing.Wait()
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (f *Front) close() error {
	var problems []error
	for _, g := range f.gates {
		problems = append(problems, g.Listener.Close())
	}
	return errors.Join(problems...)
}

// Addrs are the addresses that it really listens on.
func (f *Front) Addrs() []string {
	var out []string
	for _, g := range f.gates {
		if addr, err := manet.FromNetAddr(g.Addr()); err == nil {
			out = append(out, addr.String())
		}
	}
	return out
}

// refuse tells a client that there is no room for it. One that wants TLS can
// only be hung up on.
func (f *Front) refuse(c net.Conn) {
	if f.shared.Certificate != nil {
		return
	}
	p := &page{header: http.Header{}}
	p.header.Set("Retry-After", "1")
	p.header.Set("Connection", "close")
	f.api.Deny(p, api.Errorf(api.CodeUnavailable, "this peer has no room for further connections; try again"))
	_ = p.send(c) // nobody else cares
}

// Conditions tells of listeners that have no room.
func (f *Front) Conditions() []api.Condition {
	var refused, capacity int
	for _, g := range f.gates {
		refused += g.refusedLately(time.Now())
		capacity += g.limits.Connections
	}
	if refused == 0 {
		return nil
	}
	return []api.Condition{{Name: api.AlertConnections, Subject: f.api.Name, Message: fmt.Sprintf(
		"%s turned away %d connections in the last minute: at most %d are served at once, %d of one address. "+
			"Look who opens them; if they are meant, raise the limit of open files (LimitNOFILE of systemd, ulimit -n)",
		f.api.Name, refused, capacity, f.gates[0].limits.PerAddress)}}
}

// ownerConnections is room enough for what the owner of a peer asks it.
const ownerConnections = 32

// ServeOwner serves a listener that only the peer's owner can reach, with the
// same limits and deadlines, until ctx ends.
func ServeOwner(ctx context.Context, l net.Listener, handler http.Handler) error {
	timeouts := Timeouts{}.orDefaults()
	g := newGate(l, Limits{Connections: ownerConnections, PerAddress: ownerConnections}, timeouts.Idle, func(net.Conn) {})
	server := &http.Server{Handler: timeouts.wrap(nil, handler), ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout,
		ConnContext: withConn, ConnState: watchState, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	defer g.refusing.Wait()
	if err := server.Serve(g); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
