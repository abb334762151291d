package ipfsproxy

import (
	"context"
	"fmt"
	"strings"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multibase"

	"holdfast/api"
)

// resolve finds the CID of an argument: a CID, a path with or without /ipfs/,
// or a URI such as ipfs://bafy….
func (p *proxy) resolve(ctx context.Context, arg string) (api.Cid, error) {
	path := contentPath(arg)
	if text, ok := strings.CutPrefix(path, "/ipfs/"); ok {
		if c, err := cid.Decode(strings.TrimSuffix(text, "/")); err == nil {
			return api.NewCid(c), nil
		}
	}
	c, err := p.deps.Service.Resolve(ctx, path)
	if err != nil {
		return api.Cid{}, fmt.Errorf("resolve %q: %w", arg, err)
	}
	return c, nil
}

func contentPath(arg string) string {
	for _, namespace := range []string{"ipfs", "ipns"} {
		for _, prefix := range []string{namespace + "://", namespace + ":"} {
			if len(arg) > len(prefix) && strings.EqualFold(arg[:len(prefix)], prefix) {
				return "/" + namespace + "/" + strings.TrimPrefix(arg[len(prefix):], "/")
			}
		}
	}
	if strings.HasPrefix(arg, "/") {
		return arg
	}
	return "/ipfs/" + arg
}

// writer writes CIDs in the base that a request asks for.
type writer struct {
	base    multibase.Encoder
	upgrade bool // version 0 to 1
}

func (c *call) writer() (writer, error) {
	out := writer{base: multibase.MustNewEncoder(multibase.Base32)}
	if name := c.text("cid-base"); name != "" {
		base, err := multibase.EncoderByName(name)
		if err != nil {
			return writer{}, err
		}
		// Version 0 is written in base58btc only.
		out = writer{base: base, upgrade: base.Encoding() != multibase.Base58BTC}
	}
	if c.given("upgrade-cidv0-in-output") {
		out.upgrade = c.on("upgrade-cidv0-in-output", false)
	}
	return out, nil
}

func (w writer) write(c cid.Cid) string {
	if w.upgrade && c.Version() == 0 {
		c = cid.NewCidV1(c.Type(), c.Hash())
	}
	return c.Encode(w.base)
}
