package fake

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/node/internal/dag"
	"holdfast/node/internal/gate"
)

// Fetch is as that of the embedded node. Content comes from holders first, then
// from the peering set, as far as they can be reached.
func (n *Node) Fetch(ctx context.Context, pin api.Pin, holders []peer.AddrInfo, progress func(blocks, bytes uint64)) error {
	c := pin.Cid.Cid
	w, err := dag.NewWalk(c, pin.Mode != api.ModeDirect)
	if err != nil {
		return err
	}
	ctx, done, err := n.begin(ctx, "fetch", c)
	if err != nil {
		return err
	}
	defer done()
	unprotect, err := n.protect(ctx, c)
	if err != nil {
		return ended(ctx, err)
	}
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	err = n.fetch(ctx, w, holders, progress)
	unprotect(err == nil)
	if err != nil {
		return fmt.Errorf("fetch %s: %w", c, ended(ctx, err))
	}
	return nil
}

func (n *Node) protect(ctx context.Context, c cid.Cid) (func(fetched bool), error) {
	release, err := n.gate.Touch(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fetching[c]++
	return func(fetched bool) {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.fetching[c]--; n.fetching[c] == 0 {
			delete(n.fetching, c)
		}
		if fetched {
			n.fetched[c] = true
		}
	}, nil
}

func (n *Node) fetch(ctx context.Context, w *dag.Walk, holders []peer.AddrInfo, progress func(blocks, bytes uint64)) error {
	for {
		c, ok := w.Next()
		if !ok {
			progress(w.Progress())
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		b, local, err := n.local(c)
		if err != nil {
			return err
		}
		if !local {
			data, err := n.await(ctx, c, holders)
			if err != nil {
				return err
			}
			if b, err = blocks.NewBlockWithCid(data, c); err != nil {
				return err
			}
			if err := n.fault("write", c); err != nil {
				return err
			}
			if err := n.store(ctx, []blocks.Block{b}); err != nil {
				return err
			}
		}
		if err := w.Visit(b); err != nil {
			return err
		}
		if !local {
			progress(w.Progress())
		}
	}
}

// await returns a block as soon as a reachable peer has it.
func (n *Node) await(ctx context.Context, c cid.Cid, holders []peer.AddrInfo) ([]byte, error) {
	patience := time.Duration(n.config.StallLimit) * n.config.StallTimeout
	give := time.NewTimer(patience)
	defer give.Stop()
	for {
		changed := n.config.World.change()
		if data, ok := n.config.World.find(n.ID(), n.known(holders), dag.Key(c)); ok {
			if n.config.World.latency > 0 {
				if err := gate.Sleep(ctx, n.config.World.latency); err != nil {
					return nil, err
				}
			}
			return data, nil
		}
		select {
		case <-changed:
		case <-give.C:
			return nil, api.Errorf(api.CodeUnavailable, "no peer sent block %s within %s", c, patience)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (n *Node) known(holders []peer.AddrInfo) []peer.ID {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []peer.ID
	for _, h := range holders {
		out = append(out, h.ID)
	}
	return append(out, n.peers...)
}

// local reads a block of the disk.
func (n *Node) local(c cid.Cid) (blocks.Block, bool, error) {
	if b, ok := dag.Identity(c); ok {
		return b, true, nil
	}
	data, ok := n.disk.block(dag.Key(c))
	if !ok && dag.Nothing(c) {
		ok = true
	}
	if !ok {
		return nil, false, nil
	}
	b, err := blocks.NewBlockWithCid(data, c)
	return b, err == nil, err
}

// store writes blocks, all or none.
func (n *Node) store(ctx context.Context, bs []blocks.Block) error {
	release, err := n.gate.Touch(ctx)
	if err != nil {
		return err
	}
	defer release()
	err = n.disk.write(n, func() error {
		fresh, size := map[string][]byte{}, uint64(0)
		for _, b := range bs {
			key := dag.Key(b.Cid())
			if _, present := n.disk.blocks[key]; !present && fresh[key] == nil {
				fresh[key] = slices.Clone(b.RawData())
				size += uint64(len(b.RawData()))
			}
		}
		if size > n.disk.free() {
			return api.Errorf(api.CodeNoSpace, "no space for %d bytes of blocks", size)
		}
		for key, data := range fresh {
			n.disk.blocks[key] = data
			n.disk.unsynced[key] = true
			delete(n.disk.damaged, key)
		}
		n.disk.used += size
		return nil
	})
	if err == nil {
		n.config.World.wake()
	}
	return err
}

// PutBlocks writes blocks, all or none.
func (n *Node) PutBlocks(ctx context.Context, bs []blocks.Block) error {
	ctx, done, err := n.begin(ctx, "put", cid.Undef)
	if err != nil {
		return err
	}
	defer done()
	return ended(ctx, n.store(ctx, bs))
}

// Sync makes the blocks that were written durable.
func (n *Node) Sync(ctx context.Context) error {
	_, done, err := n.begin(ctx, "sync", cid.Undef)
	if err != nil {
		return err
	}
	defer done()
	return n.disk.write(n, func() error {
		clear(n.disk.unsynced)
		return nil
	})
}

// Lease holds off garbage collection until released, and LeaseLinger longer.
func (n *Node) Lease(ctx context.Context) (release func(), err error) {
	ctx, done, err := n.begin(ctx, "lease", cid.Undef)
	if err != nil {
		return nil, err
	}
	defer done()
	release, err = n.gate.Lease(ctx, "add", n.config.LeaseLinger)
	return release, ended(ctx, err)
}

// Kept says of each CID whether the cluster has pinned it.
func (n *Node) Kept(ctx context.Context, cids []cid.Cid) ([]bool, error) {
	_, done, err := n.begin(ctx, "kept", cid.Undef)
	if err != nil {
		return nil, err
	}
	defer done()
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	kept := make([]bool, len(cids))
	for i, c := range cids {
		_, kept[i] = n.disk.own[c]
	}
	return kept, nil
}

// Check walks what is local of a pin; missing is the first block that is not.
func (n *Node) Check(ctx context.Context, pin api.Pin, pace func(ctx context.Context, blocks int, bytes uint64) error) (missing cid.Cid, err error) {
	w, err := dag.NewWalk(pin.Cid.Cid, pin.Mode != api.ModeDirect)
	if err != nil {
		return cid.Undef, err
	}
	ctx, done, err := n.begin(ctx, "complete", pin.Cid.Cid)
	if err != nil {
		return cid.Undef, err
	}
	defer done()
	for read := uint64(0); ; {
		c, ok := w.Next()
		if pace != nil {
			_, bytes := w.Progress()
			since := bytes - read
			read = bytes
			if err := pace(ctx, 1, since); err != nil {
				return cid.Undef, ended(ctx, err)
			}
		}
		if !ok {
			return cid.Undef, nil
		}
		b, local, err := n.local(c)
		if err != nil || !local {
			return c, err
		}
		if err := w.Visit(b); err != nil {
			return cid.Undef, err
		}
	}
}

// Complete is Check without a pace.
func (n *Node) Complete(ctx context.Context, pin api.Pin) (complete bool, missing cid.Cid, err error) {
	missing, err = n.Check(ctx, pin, nil)
	return err == nil && !missing.Defined(), missing, err
}

// Resolve takes a CID, or /ipfs/ followed by one; the fake knows no names and
// no paths below a root.
func (n *Node) Resolve(ctx context.Context, path string) (cid.Cid, error) {
	text, namespaced := strings.CutPrefix(path, "/ipfs/")
	if !namespaced && strings.HasPrefix(path, "/ipns/") {
		return cid.Undef, api.Errorf(api.CodeNotFound, "resolve %s: no such name", path)
	}
	root, rest, _ := strings.Cut(strings.TrimSuffix(text, "/"), "/")
	c, err := cid.Decode(root)
	if err != nil {
		return cid.Undef, api.Errorf(api.CodeInvalid, "%q is not an IPFS path: %w; give one such as /ipfs/<CID>", path, err)
	}
	_, done, err := n.begin(ctx, "resolve", c)
	if err != nil {
		return cid.Undef, err
	}
	defer done()
	if rest != "" {
		return cid.Undef, api.Errorf(api.CodeNotFound, "resolve %s: no such file", path)
	}
	return c, nil
}
