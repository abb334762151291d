package ipfsproxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"holdfast/api"
)

// maxPutAnswer bounds what the node may answer to a put, about 100 bytes for
// each block.
const maxPutAnswer = 64 << 20

// pinsAtOnce is how many pins of one request are proposed together.
const pinsAtOnce = 64

var putOptions = []option{{"pin", "", isBool}}

// put lets the node store blocks without pinning them, pins them in the
// cluster, with this peer preferred because it has them, and only then passes
// the node's answer on.
func (p *proxy) put(ctx context.Context, c *call, a *answer) error {
	release, err := p.deps.Lease(ctx)
	if err != nil {
		return err
	}
	defer release()
	r := c.request.Clone(ctx)
	c.values.Set("pin", "false")
	c.values.Del("encoding")
	c.values.Del("enc")
	r.URL.RawQuery = c.values.Encode()
	r.RequestURI = r.URL.RequestURI()
	kept := newCapture(maxPutAnswer)
	p.deps.Node.ServeHTTP(kept, r)
	kept.WriteHeader(http.StatusOK) // what a handler means that says nothing
	if text := kept.header.Get(streamError); text != "" {
		return errors.New(text)
	}
	if kept.status == http.StatusOK {
		roots, err := putCids(kept.body.Bytes())
		if err != nil {
			return err
		}
		if err := p.pinAll(ctx, roots); err != nil {
			return err
		}
	}
	a.started = true
	kept.relay(a.w)
	return nil
}

// putCids reads the CIDs of a node's answer to block/put or dag/put.
func putCids(body []byte) ([]cid.Cid, error) {
	var out []cid.Cid
	lines := json.NewDecoder(bytes.NewReader(body))
	for {
		var line struct {
			Key string
			Cid cid.Cid
		}
		err := lines.Decode(&line)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err == nil && line.Key != "" {
			line.Cid, err = cid.Decode(line.Key)
		}
		if err != nil {
			return nil, fmt.Errorf("read the node's answer: %w", err)
		}
		if line.Cid.Defined() {
			out = append(out, line.Cid)
		}
	}
}

// pinAll pins what is in this peer's node.
func (p *proxy) pinAll(ctx context.Context, roots []cid.Cid) error {
	options := api.PinOptions{Mode: api.ModeRecursive}
	if p.self != "" {
		options.UserAllocations = []peer.ID{p.self}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pinsAtOnce)
	for _, root := range roots {
		group.Go(func() error {
			if _, err := p.deps.Service.Pin(ctx, api.PinRequest{Cid: api.NewCid(root), Options: options}); err != nil {
				return fmt.Errorf("the block %s is stored on one peer and not pinned: %w", root, err)
			}
			return nil
		})
	}
	return group.Wait()
}
