package fake

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"holdfast/api"
	"holdfast/node/internal/dag"
)

const (
	gcPatience = 5 * time.Second
	gcLimit    = 2 * time.Minute
)

var errUndefined = api.Errorf(api.CodeInvalid, "the CID of the pin is missing")

// Pin records pins, all or none, and syncs the disk.
func (n *Node) Pin(ctx context.Context, pins []api.Pin) error {
	for _, p := range pins {
		if !p.Cid.Defined() {
			return errUndefined
		}
	}
	return n.change(ctx, "pin", len(pins), func() {
		for _, p := range pins {
			n.disk.own[p.Cid.Cid] = api.ModeRecursive
			if p.Mode == api.ModeDirect {
				n.disk.own[p.Cid.Cid] = api.ModeDirect
			}
			n.settled(p.Cid.Cid)
		}
	})
}

// Unpin removes pins, all or none, and syncs the disk.
func (n *Node) Unpin(ctx context.Context, cids []cid.Cid) error {
	if slices.Contains(cids, cid.Undef) {
		return errUndefined
	}
	return n.change(ctx, "unpin", len(cids), func() {
		for _, c := range cids {
			delete(n.disk.own, c)
			n.settled(c)
		}
	})
}

func (n *Node) settled(c cid.Cid) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.fetched, c)
}

func (n *Node) change(ctx context.Context, name string, count int, apply func()) error {
	if count == 0 {
		return nil
	}
	ctx, done, err := n.begin(ctx, name, cid.Undef)
	if err != nil {
		return err
	}
	defer done()
	release, err := n.gate.Touch(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	defer release()
	return n.disk.write(n, func() error {
		apply()
		clear(n.disk.unsynced)
		return nil
	})
}

// Pinned says whether a CID is pinned by the cluster.
func (n *Node) Pinned(ctx context.Context, c cid.Cid) (bool, error) {
	if !c.Defined() {
		return false, errUndefined
	}
	_, done, err := n.begin(ctx, "pinned", c)
	if err != nil {
		return false, err
	}
	defer done()
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	_, ok := n.disk.own[c]
	return ok, nil
}

// GC is as that of the embedded node.
func (n *Node) GC(ctx context.Context, report func(api.RepoGCKey)) error {
	ctx, done, err := n.begin(ctx, "gc", cid.Undef)
	if err != nil {
		return err
	}
	defer done()
	reopen, err := n.gate.Exclude(ctx, gcPatience, gcLimit)
	if err != nil {
		return ended(ctx, err)
	}
	defer reopen()
	keep, err := n.marked()
	if err != nil {
		return err
	}
	var removed []string
	err = n.disk.write(n, func() error {
		removed = slices.Sorted(maps.Keys(n.disk.blocks))
		removed = slices.DeleteFunc(removed, func(key string) bool { return keep[key] })
		for _, key := range removed {
			n.disk.remove(key)
		}
		maps.DeleteFunc(n.disk.damaged, func(key string, _ bool) bool { return !keep[key] })
		return nil
	})
	if err != nil || report == nil {
		return err
	}
	for _, key := range removed {
		report(api.RepoGCKey{Key: api.NewCid(cid.NewCidV1(cid.Raw, []byte(key)))})
	}
	return nil
}

// marked returns the keys of all blocks that must stay.
func (n *Node) marked() (map[string]bool, error) {
	roots := map[cid.Cid]bool{} // value: recursive
	n.mu.Lock()
	for c := range n.fetching {
		roots[c] = true
	}
	for c := range n.fetched {
		roots[c] = true
	}
	n.mu.Unlock()
	n.disk.mu.Lock()
	for _, pins := range []map[cid.Cid]api.PinMode{n.disk.own, n.disk.user} {
		for c, mode := range pins {
			roots[c] = roots[c] || mode == api.ModeRecursive
		}
	}
	n.disk.mu.Unlock()
	if n.config.Wanted != nil {
		err := n.config.Wanted(func(p api.Pin) bool {
			roots[p.Cid.Cid] = roots[p.Cid.Cid] || p.Mode != api.ModeDirect
			return true
		})
		if err != nil {
			return nil, fmt.Errorf("list what is wanted: %w", err)
		}
	}
	keep := map[string]bool{}
	for c, recursive := range roots {
		if err := n.mark(c, recursive, keep); err != nil {
			return nil, err
		}
	}
	return keep, nil
}

func (n *Node) mark(root cid.Cid, recursive bool, keep map[string]bool) error {
	w, err := dag.NewWalk(root, recursive && dag.CheckCodec(root) == nil)
	if err != nil {
		return err
	}
	for {
		c, ok := w.Next()
		if !ok {
			return nil
		}
		keep[dag.Key(c)] = true
		var b blocks.Block
		if b, ok, err = n.local(c); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := w.Visit(b); err != nil {
			return err
		}
	}
}

// RepoStat is the size of the disk's content.
func (n *Node) RepoStat(ctx context.Context) (api.RepoStat, error) {
	_, done, err := n.begin(ctx, "stat", cid.Undef)
	if err != nil {
		return api.RepoStat{}, err
	}
	defer done()
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	return api.RepoStat{RepoSize: n.disk.used, StorageMax: n.disk.used + n.disk.free(), NumObjects: uint64(len(n.disk.blocks))}, nil
}

// RepoSize is how many bytes the blocks take.
func (n *Node) RepoSize(ctx context.Context) (uint64, error) {
	stat, err := n.RepoStat(ctx)
	return stat.RepoSize, err
}

// Free is how many bytes of blocks may still be written.
func (n *Node) Free(ctx context.Context) (uint64, error) {
	_, done, err := n.begin(ctx, "free", cid.Undef)
	if err != nil {
		return 0, err
	}
	defer done()
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	return n.disk.free(), nil
}
