package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"

	"holdfast/api"
)

// document sends a call and decodes its one JSON document into out (nil:
// there is none). It returns the header of the answer.
func (c *Client) document(ctx context.Context, k call, out any) (http.Header, error) {
	resp, err := c.do(ctx, k)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if out == nil {
		return resp.Header, nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return nil, broken(ctx, k, err)
	}
	return resp.Header, nil
}

// listing sends a call each time it is iterated and yields the objects of its
// stream. An error comes last, with a zero object.
func listing[T any](ctx context.Context, c *Client, k call) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		resp, err := c.do(ctx, k)
		if err != nil {
			yield(zero, err)
			return
		}
		defer resp.Body.Close()
		err = decodeStream(ctx, k, resp, func(item T) bool { return yield(item, nil) })
		if err != nil && !errors.Is(err, errStopped) {
			yield(zero, err)
		}
	}
}

// errStopped says that the reader of a stream wants no more.
var errStopped = errors.New("stopped by its reader")

// decodeStream hands over every object of a stream, one per line, and makes
// sure that it saw the end.
func decodeStream[T any](ctx context.Context, k call, resp *http.Response, each func(T) bool) error {
	if body, ok := resp.Body.(*answerBody); ok {
		body.unlimited()
	}
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	in := bufio.NewReaderSize(resp.Body, 64<<10)
	for {
		line, err := readLine(in)
		if err != nil && !errors.Is(err, io.EOF) {
			return broken(ctx, k, err)
		}
		if len(line) > 0 {
			if ended, end := endMark(line); ended {
				return end
			}
			var item T
			if err := json.Unmarshal(line, &item); err != nil {
				return broken(ctx, k, err)
			}
			if !each(item) {
				return errStopped
			}
		}
		if err != nil {
			return endOfAnswer(k, resp)
		}
	}
}

// endHeader with the value true in a request asks for the end mark; in the
// answer it says that the mark will come.
const endHeader = "X-Stream-End"

// endMark says whether a line is the one that ends a stream, and if so why the
// stream ended: nil when it is whole. No object of a stream begins so.
func endMark(line []byte) (bool, error) {
	if !bytes.HasPrefix(line, []byte(`{"end":`)) {
		return false, nil
	}
	var mark struct {
		Error *struct {
			Message string   `json:"message"`
			Reason  api.Code `json:"reason"`
		} `json:"error"`
	}
	if err := json.Unmarshal(line, &mark); err != nil {
		return true, api.Errorf(api.CodeInternal, "read the end of the answer: %w", err)
	}
	if mark.Error == nil {
		return true, nil
	}
	return true, &api.Error{Code: mark.Error.Reason, Message: mark.Error.Message}
}

// endOfAnswer is for an answer that has ended without the mark. A server that
// does not know of it states the end in a trailer, which is empty when all went
// well. Without either the answer may have been cut off.
func endOfAnswer(k call, resp *http.Response) error {
	if err := trailerError(resp.Trailer); err != nil {
		return err
	}
	if resp.Header.Get(endHeader) == "" && len(resp.Trailer["X-Stream-Error"]) > 0 {
		return nil
	}
	return &api.Error{Code: lostCode(k), Message: "the answer to " + k.method + " " + k.path +
		" ended without the mark of its end: something on the way cut it off, or drops the trailers of an older peer"}
}

func trailerError(trailer http.Header) error {
	text, code := trailer.Get("X-Stream-Error"), api.Code(trailer.Get("X-Stream-Error-Code"))
	if text == "" {
		return nil
	}
	if code == "" {
		code = api.CodeInternal
	}
	return &api.Error{Code: code, Message: text}
}

// broken tells why an answer did not arrive whole.
func broken(ctx context.Context, k call, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	code := lostCode(k)
	var e *api.Error
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &e) || errors.As(err, &syntax) || errors.As(err, &kind) {
		code = api.CodeInternal
	}
	return api.Errorf(code, "read the answer to %s %s: %w", k.method, k.path, err)
}

// lostCode is the code of an answer that did not arrive whole.
func lostCode(k call) api.Code {
	if k.method != http.MethodGet {
		return api.CodeUnknownOutcome
	}
	return api.CodeUnavailable
}
