package client

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/api"

	"github.com/multiformats/go-multiaddr"
)

// DefaultAddr is where a peer listens when nobody said otherwise.
const DefaultAddr = "/ip4/127.0.0.1/tcp/9094"

// Config says which cluster to talk to, and as whom. Its zero value talks to
// the peer on this machine.
type Config struct {
	// Addrs are multiaddrs (/ip4/…/tcp/9094, /dns4/…/tcp/443/https, /unix/…) or
	// URLs (http://…, https://…) of peers of one cluster. They are tried in
	// order, beginning with the last that answered. None: DefaultAddr.
	Addrs []string
	// User and Password go out as HTTP basic authentication, or Token as a
	// bearer token, which wins.
	User, Password string
	Token          string
	// HTTPS makes addresses that do not say http or https use TLS.
	HTTPS bool
	// TLS is for https; nil: the system's roots.
	TLS *tls.Config
	// Timeout bounds the wait for an answer, and for all of it unless it is a
	// stream; 0: no limit. An upload has none.
	Timeout time.Duration
	// Read says what reads must show; the peers that cannot are passed over.
	Read api.ReadPoint
	// HTTPClient replaces the transport (TLS is then its business); addresses
	// of the form /unix need the client's own. nil: one of our own.
	HTTPClient *http.Client
}

// Client talks to a cluster. It is safe for concurrent use.
type Client struct {
	config  Config
	targets []target
	last    atomic.Int32 // index of the target that answered last
	retry   retryPolicy
}

// target is one peer's API.
type target struct {
	base string // URL without a final slash
	http *http.Client
}

// New checks the addresses and makes a client. It contacts nobody.
func New(config Config) (*Client, error) {
	if len(config.Addrs) == 0 {
		config.Addrs = []string{DefaultAddr}
	}
	c := &Client{config: config, retry: defaultRetry}
	shared := config.HTTPClient
	if shared == nil {
		shared = &http.Client{Transport: newTransport(config.TLS, nil), CheckRedirect: keepMethod}
	}
	for _, addr := range config.Addrs {
		base, socket, err := parseAddr(strings.TrimSpace(addr), config.HTTPS)
		if err != nil {
			return nil, err
		}
		t := target{base: base, http: shared}
		if socket != "" {
			t.http = &http.Client{CheckRedirect: keepMethod, Transport: newTransport(config.TLS,
				func(ctx context.Context, _, _ string) (net.Conn, error) {
					var d net.Dialer
					return d.DialContext(ctx, "unix", socket)
				})}
		}
		c.targets = append(c.targets, t)
	}
	return c, nil
}

// Reading returns a client of the same peers whose reads show what at says.
func (c *Client) Reading(at api.ReadPoint) *Client {
	out := &Client{config: c.config, targets: c.targets, retry: c.retry}
	out.config.Read = at
	out.last.Store(c.last.Load())
	return out
}

// readQuery writes a read point as the parameters that the API reads.
func readQuery(q url.Values, at api.ReadPoint) url.Values {
	if at == (api.ReadPoint{}) {
		return q
	}
	q = maps.Clone(q)
	if q == nil {
		q = url.Values{}
	}
	setBool(q, "consistent", at.Consistent)
	if at.Index > 0 {
		q.Set("wait-index", strconv.FormatUint(at.Index, 10))
	}
	return q
}

func newTransport(config *tls.Config, dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         hearing(dial),
		TLSClientConfig:     config,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     90 * time.Second,
		// An upload waits this long for a peer to refuse it before it begins.
		ExpectContinueTimeout: time.Second,
	}
}

// keepMethod never follows a redirect: the API redirects only paths that this
// client does not use, and credentials must not travel.
func keepMethod(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// parseAddr turns an address into a base URL, and for a Unix socket its path.
func parseAddr(text string, https bool) (base, socket string, err error) {
	if !strings.HasPrefix(text, "/") {
		u, err := url.Parse(text)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" {
			return "", "", api.Errorf(api.CodeInvalid, "address %q is neither a multiaddr such as %s nor a URL such as http://host:9094", text, DefaultAddr)
		}
		return strings.TrimRight(u.Scheme+"://"+u.Host+u.EscapedPath(), "/"), "", nil
	}
	addr, err := multiaddr.NewMultiaddr(text)
	if err != nil {
		return "", "", api.Errorf(api.CodeInvalid, "address %q is not a multiaddr: %w", text, err)
	}
	return fromMultiaddr(addr, https)
}

func fromMultiaddr(addr multiaddr.Multiaddr, https bool) (base, socket string, err error) {
	var scheme, host, port string
	for _, part := range addr {
		switch part.Protocol().Code {
		case multiaddr.P_IP4, multiaddr.P_IP6, multiaddr.P_DNS, multiaddr.P_DNS4, multiaddr.P_DNS6:
			host = part.Value()
		case multiaddr.P_TCP:
			port = part.Value()
		case multiaddr.P_UNIX:
			socket = part.Value()
		case multiaddr.P_HTTPS, multiaddr.P_TLS:
			scheme = "https"
		case multiaddr.P_HTTP:
			if scheme == "" { // else it is /tls/http
				scheme = "http"
			}
		default:
			return "", "", api.Errorf(api.CodeInvalid, "address %s: /%s is not something the HTTP API is reached by", addr, part.Protocol().Name)
		}
	}
	switch {
	case scheme == "" && https:
		scheme = "https"
	case scheme == "":
		scheme = "http"
	}
	switch {
	case socket != "":
		return scheme + "://unix", socket, nil
	case host == "" || port == "":
		return "", "", api.Errorf(api.CodeInvalid, "address %s lacks a host and a TCP port, such as in %s", addr, DefaultAddr)
	}
	return scheme + "://" + net.JoinHostPort(host, port), "", nil
}
