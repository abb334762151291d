package node

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/datastore/dshelp"
	pinner "github.com/ipfs/boxo/pinning/pinner"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"

	"holdfast/api"
)

// ownName is the name of Kubo pins that are ours. A pin of another name is the
// user's, even where our record says that we made one: the user has since
// pinned the same CID and so replaced it.
const ownName = "holdfast"

// ownPrefix holds a record for every pin of ours, and lentPrefix a second one
// where the pin in Kubo is the user's, who may remove it.
var (
	ownPrefix  = ds.NewKey("/holdfast/pins")
	lentPrefix = ds.NewKey("/holdfast/lent")
)

// The first byte of a record is the mode asked for; what follows, if anything,
// is the user's direct pin that a recursive one of ours took the place of.
const (
	recordRecursive = 'r'
	recordDirect    = 'd'
	recordDisplaced = 'u' // then the name of the user's direct pin
)

func ownKey(c cid.Cid) ds.Key  { return ownPrefix.Child(dshelp.NewKeyFromBinary(c.Bytes())) }
func lentKey(c cid.Cid) ds.Key { return lentPrefix.Child(dshelp.NewKeyFromBinary(c.Bytes())) }

// pinBatch is one call of Pin or Unpin: records are written together, Kubo's
// pinner does not sync in between, and one flush ends it.
type pinBatch struct {
	node    *Node
	store   ds.Batching
	pinner  pinner.Pinner
	records ds.Batch
}

// withPins runs change as one batch and makes it durable.
func (n *Node) withPins(ctx context.Context, what string, change func(context.Context, *pinBatch) error) error {
	o, ctx, done, err := n.begin(ctx, what)
	if err != nil {
		return err
	}
	defer done()
	release, err := n.gate.Touch(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	defer release()
	n.pinMu.Lock()
	defer n.pinMu.Unlock()
	store := o.core.Repo.Datastore()
	records, err := store.Batch(ctx)
	if err != nil {
		return fmt.Errorf("%s: begin batch: %w", what, err)
	}
	if auto, ok := o.core.Pinning.(interface{ SetAutosync(bool) bool }); ok {
		defer auto.SetAutosync(auto.SetAutosync(false))
	}
	b := &pinBatch{node: n, store: store, pinner: o.core.Pinning, records: records}
	if err := change(ctx, b); err != nil {
		// Pins that were made without a record are found again by their name.
		return fmt.Errorf("%s: %w", what, errors.Join(ended(ctx, err), b.pinner.Flush(ctx)))
	}
	// Blocks first, where they are apart: the pinner's own flush does not sync them.
	if g, ok := store.(*guardedStore); !ok || !g.oneLog {
		if err := store.Sync(ctx, blockstore.BlockPrefix); err != nil {
			return fmt.Errorf("%s: sync blocks: %w", what, ended(ctx, err))
		}
	}
	if err := records.Commit(ctx); err != nil {
		return fmt.Errorf("%s: write records: %w", what, ended(ctx, spaceError(err)))
	}
	// The flush syncs the datastore that holds the records too.
	if err := b.pinner.Flush(ctx); err != nil {
		return fmt.Errorf("%s: flush: %w", what, ended(ctx, spaceError(err)))
	}
	return nil
}

var errUndefined = api.Errorf(api.CodeInvalid, "the CID of the pin is missing")

// Pin records pins as ours; their blocks were fetched. When it returns all are
// durable, or none need be. Pins that the user made stay as they are.
func (n *Node) Pin(ctx context.Context, pins []api.Pin) error {
	if len(pins) == 0 {
		return nil
	}
	for _, p := range pins {
		if !p.Cid.Defined() {
			return errUndefined
		}
	}
	err := n.withPins(ctx, "pin", func(ctx context.Context, b *pinBatch) error {
		present, err := b.present(ctx, pins)
		if err != nil {
			return err
		}
		for _, p := range pins {
			if err := b.pin(ctx, p, present); err != nil {
				return fmt.Errorf("%s: %w", p.Cid, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, p := range pins {
		n.settled(p.Cid.Cid)
	}
	return nil
}

// kuboPins are the pins that Kubo has of some CIDs, at most one of a mode each.
type kuboPins map[cid.Cid]map[pinner.Mode]string // value: name

func (b *pinBatch) present(ctx context.Context, pins []api.Pin) (kuboPins, error) {
	cids := make([]cid.Cid, 0, len(pins))
	for _, p := range pins {
		cids = append(cids, p.Cid.Cid)
	}
	return lookup(ctx, b.pinner, cids...)
}

func lookup(ctx context.Context, p pinner.Pinner, cids ...cid.Cid) (kuboPins, error) {
	out := kuboPins{}
	for _, mode := range []pinner.Mode{pinner.Recursive, pinner.Direct} {
		found, err := p.CheckIfPinnedWithType(ctx, mode, true, cids...)
		if err != nil {
			return nil, fmt.Errorf("look up pins: %w", err)
		}
		for _, f := range found {
			if !f.Pinned() {
				continue
			}
			if out[f.Key] == nil {
				out[f.Key] = map[pinner.Mode]string{}
			}
			out[f.Key][mode] = f.Name
		}
	}
	return out, nil
}

func (b *pinBatch) pin(ctx context.Context, p api.Pin, present kuboPins) error {
	c, record := p.Cid.Cid, []byte{recordRecursive}
	if p.Mode == api.ModeDirect {
		record[0] = recordDirect
	}
	recursive, hasRecursive := present[c][pinner.Recursive]
	direct, hasDirect := present[c][pinner.Direct]
	switch {
	case hasRecursive && recursive != ownName, hasDirect && direct != ownName && record[0] == recordDirect:
		// The user's pin keeps at least as much; ours takes over if it goes.
		return b.lend(ctx, c, record)
	case record[0] == recordRecursive && hasRecursive, record[0] == recordDirect && hasDirect:
		old, err := b.record(ctx, c)
		if err != nil {
			return err
		}
		if len(old) > 1 {
			record = append(record, old[1:]...)
		}
		return b.records.Put(ctx, ownKey(c), record)
	case record[0] == recordDirect && hasRecursive: // ours: the mode was changed
		if err := b.release(ctx, c); err != nil {
			return err
		}
		if restored, err := lookup(ctx, b.pinner, c); err != nil {
			return err
		} else if len(restored[c]) > 0 {
			return b.lend(ctx, c, record)
		}
	case hasDirect && direct != ownName:
		record = append(append(record, recordDisplaced), direct...)
	}
	mode := pinner.Recursive
	if record[0] == recordDirect {
		mode = pinner.Direct
	}
	if err := b.pinner.PinWithMode(ctx, c, mode, ownName); err != nil {
		return err
	}
	if err := b.records.Delete(ctx, lentKey(c)); err != nil {
		return err
	}
	// A pin asked for twice in one batch is present the second time.
	present[c] = map[pinner.Mode]string{mode: ownName}
	return b.records.Put(ctx, ownKey(c), record)
}

// lend records a pin of ours that the user's own keeps for us.
func (b *pinBatch) lend(ctx context.Context, c cid.Cid, record []byte) error {
	if err := b.records.Put(ctx, lentKey(c), record); err != nil {
		return err
	}
	return b.records.Put(ctx, ownKey(c), record)
}

func (b *pinBatch) record(ctx context.Context, c cid.Cid) ([]byte, error) {
	record, err := b.store.Get(ctx, ownKey(c))
	if errors.Is(err, ds.ErrNotFound) {
		return nil, nil
	}
	return record, err
}

// release removes the Kubo pin of ours, if there is one, and gives the user
// back the direct pin that it had displaced.
func (b *pinBatch) release(ctx context.Context, c cid.Cid) error {
	record, err := b.record(ctx, c)
	if err != nil {
		return err
	}
	present, err := lookup(ctx, b.pinner, c)
	if err != nil {
		return err
	}
	for mode, name := range present[c] {
		if name != ownName {
			continue
		}
		if err := b.pinner.Unpin(ctx, c, mode == pinner.Recursive); err != nil && !errors.Is(err, pinner.ErrNotPinned) {
			return err
		}
		if len(record) > 1 && record[1] == recordDisplaced {
			return b.pinner.PinWithMode(ctx, c, pinner.Direct, string(record[2:]))
		}
	}
	return nil
}

// Unpin removes pins of ours; what is not pinned by us is left alone, without
// error. When it returns the removal is durable. Blocks stay until collected.
func (n *Node) Unpin(ctx context.Context, cids []cid.Cid) error {
	if len(cids) == 0 {
		return nil
	}
	if slices.Contains(cids, cid.Undef) {
		return errUndefined
	}
	err := n.withPins(ctx, "unpin", func(ctx context.Context, b *pinBatch) error {
		for _, c := range cids {
			if err := b.release(ctx, c); err != nil {
				return fmt.Errorf("%s: %w", c, err)
			}
			if err := b.records.Delete(ctx, lentKey(c)); err != nil {
				return err
			}
			if err := b.records.Delete(ctx, ownKey(c)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, c := range cids {
		n.settled(c)
	}
	return nil
}

// Pinned says whether a CID is pinned by us, and Kubo indeed keeps it: a user
// who removed the pin by other means makes this false.
func (n *Node) Pinned(ctx context.Context, c cid.Cid) (bool, error) {
	if !c.Defined() {
		return false, errUndefined
	}
	o, ctx, done, err := n.begin(ctx, "look up pin")
	if err != nil {
		return false, err
	}
	defer done()
	record, err := o.core.Repo.Datastore().Get(ctx, ownKey(c))
	if errors.Is(err, ds.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look up pin %s: %w", c, ended(ctx, err))
	}
	present, err := lookup(ctx, o.core.Pinning, c)
	if err != nil {
		return false, ended(ctx, err)
	}
	if _, ok := present[c][pinner.Recursive]; ok {
		return true, nil
	}
	_, ok := present[c][pinner.Direct]
	return ok && len(record) > 0 && record[0] == recordDirect, nil
}
