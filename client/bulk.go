package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"holdfast/api"
)

// BulkResult is what a peer answered to one line of a bulk write.
type BulkResult struct {
	Line int
	Err  *api.Error // nil: it was carried out
	// JSON is the stored pin (of an unpin: the pin as it was), or the error
	// with its line. It is valid until the next result.
	JSON []byte
}

// Pin decodes the pin of a line that was carried out.
func (r BulkResult) Pin() (api.Pin, error) {
	var pin api.Pin
	err := json.Unmarshal(r.JSON, &pin)
	return pin, err
}

// Bulk sends lines as they come and yields a result for each, in their order;
// a line that fails does not stop the others. Lines without a number are given
// the one after that of the line before; numbers that are left out stand for
// blank lines. The numbers and the key ("": a random one) make a repeat safe.
//
// When a connection breaks, what was not answered is sent again to the next
// peer under the same request ids. An error comes last: no peer could be reached
// for a while, or refused the whole; all lines with a result are done. Lines is
// read in a goroutine that ends with ctx or the iteration, except that it waits
// for the line that it has asked for.
func (c *Client) Bulk(ctx context.Context, lines iter.Seq[api.BulkLine], key string) iter.Seq2[BulkResult, error] {
	return func(yield func(BulkResult, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		if key == "" {
			key = rand.Text()
		}
		b := &bulkSending{client: c, key: key, window: newBulkWindow(), yield: yield}
		defer context.AfterFunc(ctx, b.window.stop)()
		defer b.window.stop()
		go b.window.fill(lines)
		if err := b.run(ctx); err != nil && !errors.Is(err, errStopped) {
			yield(BulkResult{}, err)
		}
	}
}

// bulkSending is one bulk write on its way.
type bulkSending struct {
	client *Client
	key    string
	window *bulkWindow
	yield  func(BulkResult, error) bool
	done   uint64 // results yielded
}

// run opens one connection after the other until every line has its result.
func (b *bulkSending) run(ctx context.Context) error {
	policy := b.client.retry
	at := int(b.client.last.Load())
	for attempt, wait, since := 1, policy.first, time.Now(); b.window.waits(); attempt++ {
		before := b.done
		target := b.client.targets[at%len(b.client.targets)]
		err := b.session(ctx, target)
		switch {
		case err == nil || errors.Is(err, errStopped):
			b.client.last.Store(int32(at % len(b.client.targets)))
			if err != nil {
				return err
			}
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !elsewhere(api.CodeOf(err)):
			return err
		}
		if b.done > before {
			attempt, wait, since = 1, policy.first, time.Now()
		}
		at++
		if attempt >= policy.attempts*len(b.client.targets) || time.Since(since) >= policy.patience {
			return err
		}
		select {
		case <-time.After(wait):
			wait = min(2*wait, policy.most)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return context.Cause(ctx)
}

// session sends what has no result yet to one peer, and takes the results.
func (b *bulkSending) session(ctx context.Context, t target) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, first := b.window.open()
	defer body.Close()
	k := call{method: http.MethodPost, path: "/pins", query: url.Values{"line": {strconv.Itoa(first)}},
		upload: &upload{r: body}, contentType: "application/x-ndjson"}
	resp, _, err := b.client.try(ctx, t, k, b.key)
	var answered *api.Error
	switch {
	case errors.As(err, &answered):
		return answered
	case err != nil:
		return api.Errorf(api.CodeUnavailable, "POST %s/pins: %w", t.base, reason(err))
	}
	defer resp.Body.Close()
	in := bufio.NewReaderSize(resp.Body, 64<<10)
	for {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return b.ended(endOfAnswer(k, resp))
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return broken(ctx, k, err)
		}
		if ended, end := endMark(line); ended {
			return b.ended(end)
		}
		if err := b.take(line); err != nil {
			return err
		}
	}
}

// readLine returns the next line, valid until the next call.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		long := bytes.Clone(line)
		line, err = in.ReadBytes('\n')
		line = append(long, line...)
	}
	return bytes.TrimSpace(line), err
}

// ended says whether a peer whose answer has ended with err has answered all.
func (b *bulkSending) ended(err error) error {
	if err != nil {
		if api.CodeOf(err) == api.CodeUnknownOutcome {
			err = api.Errorf(api.CodeUnavailable, "%w", err) // what has no result is sent again
		}
		return err
	}
	if b.window.waits() {
		return api.Errorf(api.CodeUnavailable, "the peer ended the answer early")
	}
	return nil
}

// take hands a result over. The result of a line that could not be carried out
// for want of a leader is no result: the line is sent again.
func (b *bulkSending) take(data []byte) error {
	sent, ok := b.window.oldest()
	if !ok {
		return api.Errorf(api.CodeInternal, "the peer answered more than it was asked")
	}
	result := BulkResult{Line: sent.number, JSON: data}
	if bytes.HasPrefix(data, []byte(`{"error":`)) {
		var body struct {
			Error struct {
				Message string   `json:"message"`
				Reason  api.Code `json:"reason"`
			} `json:"error"`
		}
		if err := json.Unmarshal(data, &body); err != nil {
			return api.Errorf(api.CodeInternal, "read the answer to line %d: %w", sent.number, err)
		}
		result.Err = &api.Error{Code: body.Error.Reason, Message: body.Error.Message}
		if elsewhere(result.Err.Code) {
			return result.Err
		}
	}
	if sent.err != nil {
		result.Err = sent.err
	}
	b.window.acknowledge()
	b.done++
	if !b.yield(result, nil) {
		return errStopped
	}
	return nil
}
