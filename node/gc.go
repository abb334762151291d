package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/boxo/datastore/dshelp"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/ipfs/kubo/core/corerepo"

	"holdfast/api"
	"holdfast/node/internal/gate"
)

const (
	gcPatience = 5 * time.Second // keeps adds waiting at most so long at a time
	gcLimit    = 2 * time.Minute // then the collection is given up
)

// GC removes every block that no pin, no running fetch, no add and nothing in
// MFS needs, and tells report (which may be nil) of each. Adds wait while it
// works. It waits for running adds, and gives up with unavailable after two
// minutes of that.
func (n *Node) GC(ctx context.Context, report func(api.RepoGCKey)) error {
	o, ctx, done, err := n.begin(ctx, "collect garbage")
	if err != nil {
		return err
	}
	defer done()
	if report == nil {
		report = func(api.RepoGCKey) {}
	}
	begun := time.Now()
	removed, total, err := n.sweep(ctx, o, report)
	if err == nil && removed*20 > total {
		err = o.compact(ctx)
	}
	o.space.forget()
	n.counters.collected(time.Since(begun), err)
	if err != nil {
		return fmt.Errorf("collect garbage: %w", ended(ctx, err))
	}
	return nil
}

// compact frees the space of removed blocks, where the store does not at once.
// Kubo's collection would do so while it keeps everybody out, hence it gets no
// store that can.
func (o *opened) compact(ctx context.Context) error {
	store := o.core.Repo.Datastore()
	if g, ok := store.(*guardedStore); ok {
		store = g.Datastore
	}
	if c, ok := store.(ds.GCDatastore); ok {
		return c.CollectGarbage(ctx)
	}
	return nil
}

// lentRoots are pins of ours that rest on one of the user's, which may be gone.
func lentRoots(ctx context.Context, o *opened, add func(root) bool) error {
	lent, err := o.core.Repo.Datastore().Query(ctx, query.Query{Prefix: lentPrefix.String()})
	if err != nil {
		return err
	}
	defer lent.Close()
	for r := range lent.Next() {
		if r.Error != nil {
			return r.Error
		}
		c, err := cidOfKey(r.Key)
		if err != nil {
			return err
		}
		if !add(root{cid: keepRoot(c, len(r.Value) > 0 && r.Value[0] == recordRecursive), whole: true}) {
			return nil
		}
	}
	return nil
}

// fileRoots are MFS, and the block that bears the repository's name.
func fileRoots(_ context.Context, o *opened, add func(root) bool) error {
	files, err := corerepo.BestEffortRoots(o.core)
	if err != nil {
		return err
	}
	for _, c := range files {
		add(root{cid: c})
	}
	if o.marker.Defined() {
		add(root{cid: o.marker})
	}
	return nil
}

// wantedRoots are what is being fetched, and what the peer is asked to keep.
func (n *Node) wantedRoots(ctx context.Context, o *opened, add func(root) bool) error {
	for _, c := range n.protected(time.Now()) {
		add(root{cid: c, wanted: true})
	}
	if n.config.Wanted == nil {
		return nil
	}
	var failed error
	err := n.config.Wanted(func(p api.Pin) bool {
		pinned, err := o.core.Repo.Datastore().Has(ctx, ownKey(p.Cid.Cid))
		if failed = err; err != nil {
			return false
		}
		return (pinned || add(root{cid: keepRoot(p.Cid.Cid, p.Mode != api.ModeDirect), wanted: true})) && ctx.Err() == nil
	})
	return errors.Join(err, failed, ctx.Err())
}

func cidOfKey(text string) (cid.Cid, error) {
	raw, err := dshelp.BinaryFromDsKey(ds.RawKey("/" + ds.RawKey(text).BaseNamespace()))
	if err != nil {
		return cid.Undef, fmt.Errorf("record %s of a pin: %w", text, err)
	}
	c, err := cid.Cast(raw)
	if err != nil {
		return cid.Undef, fmt.Errorf("record %s of a pin: %w", text, err)
	}
	return c, nil
}

// collectPeriodically keeps the repository below its size.
func (n *Node) collectPeriodically(ctx context.Context) {
	if n.config.GCPeriod < 0 {
		return
	}
	var left uint64 // bytes that the last collection left
	for gate.Sleep(ctx, n.config.GCPeriod) == nil {
		over, err := n.overWatermark(ctx, left)
		if err == nil && over {
			n.logger.Info("repository is over its watermark; collecting garbage")
			if err = n.GC(ctx, nil); err == nil {
				left, err = n.RepoSize(ctx)
			}
		}
		if ctx.Err() == nil {
			n.mu.Lock()
			n.gcFailed = err
			n.mu.Unlock()
		}
		if err != nil && ctx.Err() == nil {
			n.logger.Warn("periodic garbage collection failed", "error", err)
		}
	}
}

// overWatermark says whether the repository takes GCWatermark percent of what it
// may: of StorageMax, or of all that the disk has for it. Marking keeps everybody
// out, so that where all is needed it must not begin again and again: not before
// the repository has grown by a hundredth of what the last collection left.
func (n *Node) overWatermark(ctx context.Context, left uint64) (bool, error) {
	size, err := n.RepoSize(ctx)
	if err != nil {
		return false, err
	}
	limit := n.config.StorageMax
	if limit == 0 {
		free, err := n.Free(ctx)
		if err != nil {
			return false, err
		}
		limit = size + free
	}
	return size >= limit/100*uint64(n.config.GCWatermark) && size >= left+left/100, nil
}

// RepoSize is how many bytes the repository takes.
func (n *Node) RepoSize(ctx context.Context) (uint64, error) {
	o, ctx, done, err := n.begin(ctx, "ask for size of repository")
	if err != nil {
		return 0, err
	}
	defer done()
	return o.core.Repo.GetStorageUsage(ctx)
}

// RepoStat is the size of the repository. It counts every block, which takes
// a second per million; RepoSize and Free do not.
func (n *Node) RepoStat(ctx context.Context) (api.RepoStat, error) {
	o, ctx, done, err := n.begin(ctx, "repository statistics")
	if err != nil {
		return api.RepoStat{}, err
	}
	defer done()
	size, err := o.core.Repo.GetStorageUsage(ctx)
	if err != nil {
		return api.RepoStat{}, fmt.Errorf("size of repository: %w", ended(ctx, err))
	}
	stat := api.RepoStat{RepoSize: size, StorageMax: n.config.StorageMax}
	if stat.StorageMax == 0 {
		free, err := o.space.current(ctx)
		if err != nil {
			return api.RepoStat{}, err
		}
		stat.StorageMax = size + free
	}
	keys, err := o.core.Blockstore.AllKeysChan(ctx)
	if err != nil {
		return api.RepoStat{}, fmt.Errorf("count blocks: %w", ended(ctx, err))
	}
	for range keys {
		stat.NumObjects++
	}
	return stat, ended(ctx, ctx.Err())
}

// Free is how many bytes of blocks may still be written: what the disk has
// above the reserve, at most what is missing to StorageMax. It is at most a
// second old.
func (n *Node) Free(ctx context.Context) (uint64, error) {
	o, ctx, done, err := n.begin(ctx, "ask for free space")
	if err != nil {
		return 0, err
	}
	defer done()
	return o.space.current(ctx)
}
