package daemon

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

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"holdfast/api"
	"holdfast/config"
)

// Limits of every HTTP listener. Headers are large because a list of CIDs may
// stand in the request line.
const (
	maxHeaderBytes    = 1 << 20
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	drainTimeout      = 5 * time.Second
)

// front is one HTTP API of the peer. Its listeners are open from the start,
// and it answers 503 until it is given its handler.
type front struct {
	name      string
	listeners []net.Listener
	handler   atomic.Pointer[http.Handler]
	deny      func(http.ResponseWriter, *api.Error)
	outside   *atomic.Pointer[api.Error] // why the peer answers nothing; nil inside: it does
	server    *http.Server
	stopping  chan struct{} // closed when requests that would never end shall
}

// openFront listens on the addresses of an API; a busy one is named.
func openFront(name string, addrs []string, c config.Config, deny func(http.ResponseWriter, *api.Error), outside *atomic.Pointer[api.Error],
	logger *slog.Logger) (*front, error) {
	f := &front{name: name, deny: deny, outside: outside, stopping: make(chan struct{})}
	for _, text := range addrs {
		addr, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: address %q: %w", name, text, err), f.close())
		}
		l, err := manet.Listen(addr)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s cannot listen on %s: %w; is another peer running? Choose another with %s", name, text, err, config.Variable(name+".listen")), f.close())
		}
		f.listeners = append(f.listeners, manet.NetListener(l))
	}
	g := guard{users: c.Users, hosts: c.AllowedHosts, deny: deny, open: func(r *http.Request) bool { return r.URL.Path == "/health" }}
	f.server = &http.Server{Handler: g.wrap(http.HandlerFunc(f.serve)), MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(logger.With("api", name).Handler(), slog.LevelDebug)}
	f.server.RegisterOnShutdown(sync.OnceFunc(func() { close(f.stopping) }))
	if c.TLSCert != "" {
		certificate, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("http.tls_cert and http.tls_key: %w", err), f.close())
		}
		f.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	}
	return f, nil
}

func (f *front) serve(w http.ResponseWriter, r *http.Request) {
	if why := f.outside.Load(); why != nil {
		f.deny(w, why)
		return
	}
	if handler := f.handler.Load(); handler != nil {
		(*handler).ServeHTTP(w, r)
		return
	}
	w.Header().Set("Retry-After", "1")
	f.deny(w, api.Errorf(api.CodeUnavailable, "not ready: this peer is starting"))
}

// ready lets requests through.
func (f *front) ready(handler http.Handler) { f.handler.Store(&handler) }

// run serves until ctx ends, then lets running requests finish for a while.
func (f *front) run(ctx context.Context) error {
	failed := make(chan error, len(f.listeners))
	for _, l := range f.listeners {
		go func() {
			if f.server.TLSConfig != nil {
				failed <- f.server.ServeTLS(l, "", "")
			} else {
				failed <- f.server.Serve(l)
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
	for ; served < len(f.listeners); served++ {
		<-failed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (f *front) close() error {
	var problems []error
	for _, l := range f.listeners {
		problems = append(problems, l.Close())
	}
	return errors.Join(problems...)
}

// addrs are the addresses that it really listens on.
func (f *front) addrs() []string {
	var out []string
	for _, l := range f.listeners {
		if addr, err := manet.FromNetAddr(l.Addr()); err == nil {
			out = append(out, addr.String())
		}
	}
	return out
}
