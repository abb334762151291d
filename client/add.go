package client

import (
	"context"
	"io"
	"net/http"

	"holdfast/api"
)

// Add uploads a multipart/form-data body, whose boundary is in contentType, in
// the format of Kubo: one part per file, directory or symbolic link. It calls
// emit for every output; an error of emit ends the add and is returned. A body
// that was begun is never sent again.
func (c *Client) Add(ctx context.Context, body io.Reader, contentType string, params api.AddParams, emit func(api.AddedOutput) error) error {
	k := call{method: http.MethodPost, path: "/add", query: addQuery(params), once: true,
		upload: &upload{r: body}, contentType: contentType}
	if !params.StreamChannels {
		return c.addBuffered(ctx, k, emit)
	}
	resp, err := c.do(ctx, k)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var stopped error
	err = decodeStream(ctx, k, resp, func(item api.AddedOutput) bool {
		stopped = emit(item)
		return stopped == nil
	})
	if stopped != nil {
		return stopped
	}
	return err
}

func (c *Client) addBuffered(ctx context.Context, k call, emit func(api.AddedOutput) error) error {
	var outputs []api.AddedOutput
	if _, err := c.document(ctx, k, &outputs); err != nil {
		return err
	}
	for _, item := range outputs {
		if err := emit(item); err != nil {
			return err
		}
	}
	return nil
}
