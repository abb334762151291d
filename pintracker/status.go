package pintracker

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// pageSize is how many records are read at a time.
const pageSize = 512

// Status returns how far this peer got with a CID. It considers the pinset as
// it is now, even where the tracker has not come to it yet. It is false when
// the pinset asks nothing of this peer and nothing is left to undo.
func (t *Tracker) Status(c cid.Cid) (api.PinInfoShort, bool, error) {
	info, found, err := t.status(c.KeyString())
	return info.PinInfoShort, found, err
}

func (t *Tracker) status(key string) (api.PinInfo, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rec, known, err := t.store.get(key)
	if err != nil {
		return api.PinInfo{}, false, err
	}
	pin, wanted, err := t.wanted(key)
	if err != nil {
		return api.PinInfo{}, false, err
	}
	if !known && !wanted {
		return api.PinInfo{}, false, nil
	}
	if err := t.sure(rec); err != nil {
		return api.PinInfo{}, false, err
	}
	if t.ops[key] == nil && !(known && t.behind()) {
		rec, _ = t.policy.converge(rec, known, pin, wanted, t.clock.tick())
	}
	info, err := t.show(entry{cid: key, rec: rec})
	return info, err == nil, err
}

// behind says that the pinset is not as far as this tracker has seen it, as
// after a crash: what it asks for is not known then.
func (t *Tracker) behind() bool {
	t.store.counting.Lock()
	defer t.store.counting.Unlock()
	return t.source.Applied() < t.store.index
}

// show turns a record into what a user sees, with the progress of a fetch
// under way. Under mu.
func (t *Tracker) show(e entry) (api.PinInfo, error) {
	c, err := cid.Cast([]byte(e.cid))
	if err != nil {
		return api.PinInfo{}, fmt.Errorf("status record of no CID %x: %w", e.cid, err)
	}
	if o := t.ops[e.cid]; o != nil && e.rec.status == api.StatusPinning {
		o.observe(&e.rec)
	}
	return e.rec.info(api.NewCid(c), t.cfg.Self), nil
}

// StatusAll returns the statuses of this peer that a query selects, in the
// order of the CIDs' bytes. It costs what it returns, and holds nothing
// between the pages it reads: one that changes meanwhile may be seen as it was
// or as it became.
func (t *Tracker) StatusAll(query api.StatusQuery) iter.Seq2[api.PinInfo, error] {
	return func(yield func(api.PinInfo, error) bool) {
		after := ""
		if query.After.Defined() {
			after = query.After.KeyString()
		}
		left := query.Limit
		if left <= 0 {
			left = int(^uint(0) >> 1)
		}
		next := func() ([]api.PinInfo, error) { return t.pageOf(query.Filter, &after, min(left, pageSize)) }
		if len(query.Cids) > 0 {
			next = t.named(query, after)
		}
		for left > 0 {
			infos, err := next()
			if err != nil {
				yield(api.PinInfo{}, err)
				return
			}
			if len(infos) == 0 {
				return
			}
			for _, info := range infos[:min(left, len(infos))] {
				if !yield(info, nil) {
					return
				}
			}
			left -= min(left, len(infos))
		}
	}
}

// pageOf reads one page and moves the cursor.
func (t *Tracker) pageOf(filter api.TrackerStatus, after *string, limit int) ([]api.PinInfo, error) {
	page, err := t.store.page(filter, *after, limit)
	if err != nil {
		return nil, err
	}
	infos := make([]api.PinInfo, 0, len(page))
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range page {
		if err := t.sure(e.rec); err != nil {
			return nil, err
		}
		info, err := t.show(e)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
		*after = e.cid
	}
	return infos, nil
}

// named reads the statuses of the CIDs that a query names, one after the other.
func (t *Tracker) named(query api.StatusQuery, after string) func() ([]api.PinInfo, error) {
	keys := make([]string, 0, len(query.Cids))
	for _, c := range query.Cids {
		if key := c.KeyString(); key > after {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, strings.Compare)
	keys = slices.Compact(keys)
	return func() ([]api.PinInfo, error) {
		for len(keys) > 0 {
			info, found, err := t.status(keys[0])
			keys = keys[1:]
			if err != nil {
				return nil, err
			}
			if found && info.Status.Match(query.Filter) {
				return []api.PinInfo{info}, nil
			}
		}
		return nil, nil
	}
}

// Recover makes a CID that failed due now, before others, as if it had not
// failed before. One that is pinned is looked at, block by block, and queued if
// something is missing; what takes longer than a moment is looked at beside. It
// is false when there was nothing to recover.
func (t *Tracker) Recover(c cid.Cid) (bool, error) {
	key := c.KeyString()
	if err := t.look([]cid.Cid{c}, 0); err != nil {
		return false, err
	}
	rec, _, err := t.store.get(key)
	if err != nil {
		return false, err
	}
	if rec.status == api.StatusPinned {
		return t.recoverPinned(key)
	}
	return t.recoverFailed(key)
}

func (t *Tracker) recoverPinned(key string) (bool, error) {
	q := t.askNow(key)
	timer := time.NewTimer(recoverFor)
	defer timer.Stop()
	select {
	case <-q.done:
	case <-timer.C:
		return false, nil
	}
	rec, _, err := t.store.get(key)
	return rec.reason != "", errors.Join(q.err, err)
}

func (t *Tracker) recoverFailed(key string) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rec, known, err := t.store.get(key)
	if err != nil || !known || !rec.status.Match(api.StatusError) || t.ops[key] != nil {
		return false, err
	}
	next := due(rec, t.clock.tick())
	next.attempts = 0
	if next.status == api.StatusPinQueued {
		next.class = classFresh
	}
	b := t.store.batch()
	if err := b.put(key, &rec, &next); err != nil {
		return false, err
	}
	if err := b.commit(); err != nil {
		return false, err
	}
	t.paused = 0
	wake(t.wakeFetch)
	wake(t.wakeUnpin)
	return true, nil
}

// due is a failed record that shall be tried now.
func due(rec record, now int64) record {
	rec.since, rec.due = now, now
	if rec.status == api.StatusUnpinError {
		rec.status, rec.class = api.StatusUnpinQueued, classUnpin
	} else {
		rec.status, rec.class = api.StatusPinQueued, classRetry
	}
	return rec
}

// RecoverAll makes everything that failed due now, and returns each as it
// stands then; all that is pinned is looked at soon. It recovers only as far as the caller reads on, and a little more.
func (t *Tracker) RecoverAll() iter.Seq2[api.PinInfo, error] {
	return func(yield func(api.PinInfo, error) bool) {
		t.lookAtAll()
		for after := ""; ; {
			infos, err := t.recoverPage(&after)
			if err != nil {
				yield(api.PinInfo{}, err)
				return
			}
			if infos == nil {
				return
			}
			for _, info := range infos {
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

// recoverPage recovers one page; nil without an error is the end.
func (t *Tracker) recoverPage(after *string) ([]api.PinInfo, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	page, err := t.store.page(api.StatusError, *after, pageSize)
	if err != nil || len(page) == 0 {
		return nil, err
	}
	infos := make([]api.PinInfo, 0, len(page))
	b := t.store.batch()
	for _, e := range page {
		*after = e.cid
		next := due(e.rec, t.clock.tick())
		if err := b.put(e.cid, &e.rec, &next); err != nil {
			return nil, err
		}
		info, err := t.show(entry{cid: e.cid, rec: next})
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	if err := b.commit(); err != nil {
		return nil, err
	}
	t.paused = 0
	wake(t.wakeFetch)
	wake(t.wakeUnpin)
	return infos, nil
}

// Counts returns how many records there are by status, from counters.
func (t *Tracker) Counts() map[api.TrackerStatus]uint64 {
	s := t.store
	s.counting.Lock()
	defer s.counting.Unlock()
	out := make(map[api.TrackerStatus]uint64)
	for i, n := range s.counts {
		if n > 0 {
			out[api.TrackerStatus(1)<<i] = n
		}
	}
	return out
}

// Queued returns how many pins wait for their first attempt or their next, or
// are under way; those that failed and wait for their time do not count.
func (t *Tracker) Queued() uint64 {
	s := t.store
	s.counting.Lock()
	defer s.counting.Unlock()
	return s.counts[bits.TrailingZeros32(uint32(api.StatusPinQueued))] +
		s.counts[bits.TrailingZeros32(uint32(api.StatusPinning))]
}

// tellQueue tells the event when the length of the queue has changed.
func (t *Tracker) tellQueue() {
	if t.events.QueueChanged == nil {
		return
	}
	queued := t.Queued()
	t.mu.Lock()
	changed := queued != t.queued
	t.queued = queued
	t.mu.Unlock()
	if changed {
		t.events.QueueChanged(queued)
	}
}
