package node

import (
	"context"
	"strings"

	"github.com/ipfs/boxo/path"
	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// Resolve follows an /ipfs, /ipns or /ipld path, or a bare CID, to a CID. The
// error is invalid for what is no path, not_found for one that leads nowhere,
// and unavailable when ctx ended before the blocks on the way were had.
func (n *Node) Resolve(ctx context.Context, text string) (cid.Cid, error) {
	if !strings.HasPrefix(text, "/") {
		text = "/ipfs/" + text
	}
	p, err := path.NewPath(text)
	if err != nil {
		return cid.Undef, api.Errorf(api.CodeInvalid, "%q is not an IPFS path: %w; give one such as /ipfs/<CID>/folder/file", text, err)
	}
	o, ctx, done, err := n.begin(ctx, "resolve "+text)
	if err != nil {
		return cid.Undef, err
	}
	defer done()
	resolved, rest, err := o.api.ResolvePath(ctx, p)
	switch {
	case ctx.Err() != nil:
		return cid.Undef, api.Errorf(api.CodeUnavailable, "resolve %s: %w", text, context.Cause(ctx))
	case err != nil:
		return cid.Undef, api.Errorf(api.CodeNotFound, "resolve %s: %w", text, err)
	case len(rest) > 0:
		return cid.Undef, api.Errorf(api.CodeInvalid, "%s leads into the block %s, not to one; only whole blocks can be pinned", text, resolved.RootCid())
	}
	return resolved.RootCid(), nil
}
