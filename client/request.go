package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"holdfast/api"
)

// maxErrorBytes bounds what is read of an error's body.
const maxErrorBytes = 64 << 10

// call is one use of the API.
type call struct {
	method string
	path   string // escaped, begins with a slash
	query  url.Values
	// once: the request must not be carried out twice; all others may be (they
	// read, or carry an Idempotency-Key).
	once        bool
	upload      *upload // nil: no body
	contentType string
}

// lost says whether a repeat is out of the question once a peer has the
// request: sent tells whether one may have it.
func (k call) lost(sent bool) bool {
	if k.upload != nil {
		return k.upload.touched.Load()
	}
	return k.once && sent
}

// upload is a body that can be read once. It hides Close, so that a dial that
// fails leaves it usable.
type upload struct {
	r       io.Reader
	touched atomic.Bool // somebody has begun to read it
}

func (u *upload) Read(p []byte) (int, error) {
	u.touched.Store(true)
	return u.r.Read(p)
}

// retryPolicy says how often a request is repeated that found no leader or has
// an unknown outcome. Elections take a second or two.
type retryPolicy struct {
	attempts int
	patience time.Duration // after which no further attempt begins: the peers wait for a leader, too
	first    time.Duration // doubles up to most
	most     time.Duration
}

var defaultRetry = retryPolicy{attempts: 8, patience: 10 * time.Second, first: 50 * time.Millisecond, most: time.Second}

// errTimeout is the cause of a context that Config.Timeout ended.
var errTimeout = fmt.Errorf("no answer within the timeout: %w", context.DeadlineExceeded)

// do sends a call until a peer answers it for good. The caller closes the
// body of the response, whose status is a success.
func (c *Client) do(ctx context.Context, k call) (*http.Response, error) {
	if k.method == http.MethodGet {
		k.query = readQuery(k.query, c.config.Read)
	}
	key := ""
	if k.method != http.MethodGet && (!k.once || k.upload != nil) {
		key = rand.Text() // net/http, too, repeats what has a key
	}
	wait := c.retry.first
	began := time.Now()
	for attempt := 1; ; attempt++ {
		resp, err := c.tryAll(ctx, k, key)
		if err == nil {
			return resp, nil
		}
		if k.lost(true) || attempt >= c.retry.attempts || time.Since(began) >= c.retry.patience || !(errors.Is(err, api.ErrNoLeader) || errors.Is(err, api.ErrUnknownOutcome)) {
			return nil, err
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, c.retry.most)
		case <-ctx.Done():
			return nil, err
		}
	}
}

// tryAll asks the peers in turn, from the last that answered, until one does
// more than tell that it cannot.
func (c *Client) tryAll(ctx context.Context, k call, key string) (*http.Response, error) {
	start := int(c.last.Load())
	var uncertain bool         // some peer may have got the request
	var refusal, silence error // what a peer answered; why one did not
	for i := range c.targets {
		at := (start + i) % len(c.targets)
		resp, sent, err := c.try(ctx, c.targets[at], k, key)
		if err == nil {
			c.last.Store(int32(at))
			return resp, nil
		}
		var answered *api.Error
		if errors.As(err, &answered) {
			refusal = answered
			if !elsewhere(answered.Code) || k.lost(true) {
				c.last.Store(int32(at))
				return nil, refusal
			}
			continue
		}
		silence = api.Errorf(api.CodeUnavailable, "%s %s%s: %w", k.method, c.targets[at].base, k.path, reason(err))
		uncertain = uncertain || sent
		if ctx.Err() != nil || k.lost(sent) {
			break
		}
	}
	switch {
	case uncertain && k.method != http.MethodGet:
		return nil, api.Errorf(api.CodeUnknownOutcome, "the connection broke before the answer; the request may or may not have been carried out: %w", silence)
	case refusal != nil:
		return nil, refusal
	}
	return nil, silence
}

// elsewhere says whether another peer may do what this one cannot: after these
// answers a repeat is safe.
func elsewhere(code api.Code) bool {
	return code == api.CodeUnavailable || code == api.CodeNoLeader || code == api.CodeUnknownOutcome
}

// reason prefers the cause of an ended context, and drops the URL that
// net/http puts in front.
func reason(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// try sends the call to one peer. An *api.Error is what the peer answered; any
// other error says that it did not. sent: the peer may have got the request.
func (c *Client) try(ctx context.Context, t target, k call, key string) (resp *http.Response, sent bool, err error) {
	var began atomic.Bool
	ctx, cancel := context.WithCancelCause(ctx)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { began.Store(true) }})
	var body io.Reader
	if k.upload != nil {
		body = k.upload
	}
	target := t.base + k.path
	if len(k.query) > 0 {
		target += "?" + k.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, k.method, target, body)
	if err != nil {
		cancel(nil)
		return nil, false, err
	}
	c.setHeaders(req, k, key)
	var timer *time.Timer
	if c.config.Timeout > 0 && k.upload == nil {
		timer = time.AfterFunc(c.config.Timeout, func() { cancel(errTimeout) })
	}
	resp, err = t.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errTimeout) {
			err = cause
		}
		cancel(nil)
		return nil, began.Load(), err
	}
	resp.Body = &answerBody{ReadCloser: resp.Body, cause: func() error { return context.Cause(ctx) }, cancel: cancel, timer: timer}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		return nil, true, readError(resp)
	}
	return resp, true, nil
}

func (c *Client) setHeaders(req *http.Request, k call, key string) {
	req.Header.Set("Accept", "application/json")
	req.Header.Set(endHeader, "true")
	if k.upload != nil {
		req.Header.Set("Content-Type", k.contentType)
		req.Header.Set("Expect", "100-continue")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	switch {
	case c.config.Token != "":
		req.Header.Set("Authorization", "Bearer "+c.config.Token)
	case c.config.User != "":
		req.SetBasicAuth(c.config.User, c.config.Password)
	}
}

// readError makes an api error of a response that is not a success. A peer's
// own errors say their code; what a proxy in front says is read by its status.
func readError(resp *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
	var body struct {
		Message string   `json:"message"`
		Reason  api.Code `json:"reason"`
	}
	if json.Unmarshal(data, &body) != nil || body.Message == "" {
		body.Message = "the server answered " + strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode)
	}
	if body.Reason == "" {
		body.Reason = api.CodeOfHTTPStatus(resp.StatusCode)
	}
	return &api.Error{Code: body.Reason, Message: body.Message}
}

// answerBody is a response's body that ends its request when it is closed.
type answerBody struct {
	io.ReadCloser
	cause  func() error // why the request's context ended; nil: it did not
	cancel context.CancelCauseFunc
	timer  *time.Timer // of Config.Timeout; nil: none
}

// unlimited lifts the timeout: the answer is a stream, which may take long.
func (b *answerBody) unlimited() {
	if b.timer != nil {
		b.timer.Stop()
	}
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		if cause := b.cause(); cause != nil {
			err = cause
		}
	}
	return n, err
}

func (b *answerBody) Close() error {
	b.unlimited()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
