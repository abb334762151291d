package ipfsproxy

import (
	"bytes"
	"maps"
	"net/http"

	"holdfast/api"
)

// capture keeps an answer of the node, up to a limit, instead of sending it.
type capture struct {
	header http.Header
	status int
	body   bytes.Buffer
	limit  int
}

func newCapture(limit int) *capture {
	return &capture{header: make(http.Header), limit: limit}
}

// Header returns the headers, and after the body the trailers too.
func (c *capture) Header() http.Header { return c.header }

// WriteHeader keeps the first status.
func (c *capture) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
}

// Write keeps a piece of the body.
func (c *capture) Write(p []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	if c.body.Len()+len(p) > c.limit {
		return 0, api.Errorf(api.CodeTooLarge, "the node's answer is over %d bytes; send less at a time", c.limit)
	}
	return c.body.Write(p)
}

// relay sends what was kept, which is no failure after outputs.
func (c *capture) relay(w http.ResponseWriter) {
	maps.Copy(w.Header(), c.header)
	c.WriteHeader(http.StatusOK)
	w.WriteHeader(c.status)
	_, _ = w.Write(c.body.Bytes()) // nobody is left to tell
}
