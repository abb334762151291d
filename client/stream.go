package client

import (
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

// decodeStream hands over every object of a stream, then looks at the
// trailers, where a peer tells of an error that came after the first object.
func decodeStream[T any](ctx context.Context, k call, resp *http.Response, each func(T) bool) error {
	if body, ok := resp.Body.(*answerBody); ok {
		body.unlimited()
	}
	decoder := json.NewDecoder(resp.Body)
	for {
		var item T
		err := decoder.Decode(&item)
		if errors.Is(err, io.EOF) {
			return trailerError(resp.Trailer)
		}
		if err != nil {
			return broken(ctx, k, err)
		}
		if !each(item) {
			return errStopped
		}
	}
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
	code := api.CodeUnavailable
	if k.method != http.MethodGet {
		code = api.CodeUnknownOutcome
	}
	var e *api.Error
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &e) || errors.As(err, &syntax) || errors.As(err, &kind) {
		code = api.CodeInternal
	}
	return api.Errorf(code, "read the answer to %s %s: %w", k.method, k.path, err)
}
