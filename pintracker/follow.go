package pintracker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// chunk bounds how many CIDs are looked at under one hold of mu.
const chunk = 1024

// catchUp waits until the pinset is as far as it was when this tracker last
// looked, and returns the index to follow from. After a crash of the machine a
// pinset may come up behind, and then replays the log: what was pinned lately
// is not in it for a moment. All peers unpinning that at once would lose it.
func (t *Tracker) catchUp(ctx context.Context) (uint64, error) {
	t.store.counting.Lock()
	index := t.store.index
	t.store.counting.Unlock()
	return index, t.reached(ctx, index)
}

func (t *Tracker) reached(ctx context.Context, index uint64) error {
	for told := false; ; told = true {
		changed := t.source.Changed()
		applied := t.source.Applied()
		if applied >= index {
			return nil
		}
		if !told {
			t.logger.Warn("pin tracker waits for the pinset to catch up with what it has seen", "applied", applied, "seen", index)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// follow looks at every CID that changed since an index.
func (t *Tracker) follow(ctx context.Context, since uint64) error {
	for ctx.Err() == nil {
		changed := t.source.Changed()
		applied := t.source.Applied()
		if applied < since {
			if err := t.reached(ctx, since); err != nil {
				return err
			}
			continue
		}
		changes, ok := t.source.Changes(since)
		since = applied // whatever Changes did not tell up to here, the diff will
		if !ok {
			wake(t.wakeDiff)
		}
		seen := make([]cid.Cid, 0, min(len(changes), chunk))
		for _, c := range changes {
			since = max(since, c.Index)
			if seen = append(seen, c.Cid.Cid); len(seen) == chunk {
				if err := t.look(seen, since); err != nil {
					return err
				}
				seen = seen[:0]
			}
		}
		if err := t.look(seen, since); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

// diffs compares the whole pinset with the whole store whenever it is woken.
func (t *Tracker) diffs(ctx context.Context) error {
	for {
		select {
		case <-t.wakeDiff:
		case <-ctx.Done():
			return nil
		}
		if err := t.diff(ctx); err != nil {
			return err
		}
	}
}

// diff merges two ordered iterators, and looks closer at what differs. The
// rest of the tracker works on meanwhile: looking at a CID needs to know
// nothing of what else happens.
func (t *Tracker) diff(ctx context.Context) error {
	records := &walk{store: t.store, read: t.present}
	t.mu.Lock()
	t.store.present.Begin(t.store.records(api.StatusUndefined))
	t.mu.Unlock()
	differ := make([]cid.Cid, 0, chunk)
	add := func(c cid.Cid) error {
		if differ = append(differ, c); len(differ) < chunk {
			return nil
		}
		err := t.look(differ, 0)
		differ = differ[:0]
		return err
	}
	addKey := func(key string) error {
		c, err := castKey(key)
		if err != nil {
			return err
		}
		return add(c)
	}
	rec, err := records.next()
	if err != nil {
		return err
	}
	for pin, err := range t.source.Pins(api.PinFilter{Peer: t.cfg.Self}) {
		if err != nil {
			return fmt.Errorf("read pinset: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
		key := pin.Cid.KeyString()
		for rec != nil && rec.cid < key {
			if err := addKey(rec.cid); err != nil {
				return err
			}
			if rec, err = records.next(); err != nil {
				return err
			}
		}
		if rec != nil && rec.cid == key {
			same := t.same(rec.rec, pin)
			if rec, err = records.next(); err != nil {
				return err
			}
			if same {
				continue
			}
		}
		if err := add(pin.Cid.Cid); err != nil {
			return err
		}
	}
	for rec != nil && ctx.Err() == nil {
		if err := addKey(rec.cid); err != nil {
			return err
		}
		if rec, err = records.next(); err != nil {
			return err
		}
	}
	if ctx.Err() == nil {
		t.mu.Lock()
		t.store.present.Complete()
		t.mu.Unlock()
	}
	return t.look(differ, 0)
}

// present makes it known that these CIDs have records.
func (t *Tracker) present(page []entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range page {
		t.store.present.Add(e.cid)
	}
}

// walk reads all records in order, page by page, so that a long diff keeps
// nothing in the store from being cleaned up.
type walk struct {
	store *store
	read  func([]entry) // is told each page
	page  []entry
	after string
	begun bool
}

// next returns the next record, or nil after the last.
func (w *walk) next() (*entry, error) {
	if len(w.page) == 0 && (!w.begun || w.after != "") {
		page, err := w.store.page(api.StatusUndefined, w.after, pageSize)
		if err != nil {
			return nil, err
		}
		w.read(page)
		w.page, w.begun, w.after = page, true, ""
		if len(page) > 0 {
			w.after = page[len(page)-1].cid
		}
	}
	if len(w.page) == 0 {
		return nil, nil
	}
	e := &w.page[0]
	w.page = w.page[1:]
	return e, nil
}

// same says that a record needs nothing to agree with a pin.
func (t *Tracker) same(rec record, pin api.Pin) bool {
	if pin.Mode == "" {
		pin.Mode = api.ModeRecursive
	}
	_, change := t.policy.converge(rec, true, pin, true, t.clock.tick())
	return !change
}

// look makes the records of some CIDs what they must be; it orders them. index
// is the pinset's, or 0. Everything is read in the order of the keys, with one
// iterator on either side: after a bulk write this is most of the work.
func (t *Tracker) look(cids []cid.Cid, index uint64) error {
	slices.SortFunc(cids, func(a, b cid.Cid) int { return strings.Compare(a.KeyString(), b.KeyString()) })
	cids = slices.Compact(cids)
	t.mu.Lock()
	defer t.mu.Unlock()
	if cap(t.looked) < len(cids) {
		t.looked = make([]api.Pin, chunk)
	}
	pins := t.looked[:len(cids)]
	defer clear(pins)
	if err := t.source.GetMany(cids, pins); err != nil {
		return fmt.Errorf("read pinset: %w", err)
	}
	b := t.store.batch()
	b.index = index
	err := t.store.each(cids, func(i int, rec record, known bool) error {
		pin, wanted := t.asked(pins[i], pins[i].Revision != 0)
		return t.converge(b, cids[i].KeyString(), pin, wanted, rec, known)
	})
	if err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	if t.store.present.Stale(t.store.records(api.StatusUndefined)) {
		t.store.present.Forget()
		wake(t.wakeDiff) // it reads all records
	}
	wake(t.wakeFetch)
	wake(t.wakeUnpin)
	return nil
}

// converge makes one record what it must be. With an operation under way it only
// calls off a fetch that is for nothing: the end of an operation looks again.
// Under mu.
func (t *Tracker) converge(b *batch, key string, pin api.Pin, wanted bool, rec record, known bool) error {
	if o := t.ops[key]; o != nil {
		if o.stage == fetching && (!wanted || pin.Mode != o.pin.Mode) {
			o.obsolete = true
			o.callOff(errObsolete)
		}
		return nil
	}
	next, change := t.policy.converge(rec, known, pin, wanted, t.clock.tick())
	if !change {
		return nil
	}
	if rec.status == api.StatusPinned && next.status == api.StatusPinned && rec.repeatedBy(pin) {
		t.ask(key) // is it still all here?
	}
	old := &rec
	if !known {
		old = nil
	}
	return b.put(key, old, &next)
}
