package pintracker

import (
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// Why what was pinned is so no longer, as users read it.
const (
	otherRepository = "the IPFS repository is another one than it was, or was emptied: its blocks are looked for and fetched again"
	pinGone         = "the IPFS node does not have its pin any more: its blocks are looked for and fetched again"
)

var errNotRecognized = api.Errorf(api.CodeUnavailable, "this peer has just started, and has not looked yet whether its IPFS repository still has its pins; ask again in a moment")

// Recognized is closed when this peer knows that its records are about the
// repository that the node has open. Before that nothing is called pinned.
func (t *Tracker) Recognized() <-chan struct{} { return t.known }

// sure says whether a record may be believed; those that say pinned may only
// once the repository is known (INV-PINNED).
func (t *Tracker) sure(rec record) error {
	if rec.status != api.StatusPinned {
		return nil
	}
	select {
	case <-t.known:
		return nil
	default:
		return errNotRecognized
	}
}

// recognize compares the node's repository with the one that the records are
// about. Of another one, or an emptied one, nothing is known: everything is
// queued again, before anybody is told a status. Of the same one, the node's
// own pins are looked for, as an older copy of it lacks some. That goes on
// beside the rest of the work after a while: from the CID that is returned.
func (t *Tracker) recognize(ctx context.Context) (rest *string, err error) {
	id, err := t.node.RepoID(ctx)
	for ; err != nil; id, err = t.node.RepoID(ctx) {
		t.logger.Warn("the IPFS repository cannot be asked for its ID", "err", err, "next_try", lookAgain)
		if !sleep(ctx, lookAgain) {
			return nil, nil
		}
	}
	known, err := t.store.text(keyRepo)
	if err != nil {
		return nil, err
	}
	begin := ""
	rest = &begin
	switch {
	case known == id:
	case known == "":
		// A new tracker, or the records of a release that did not ask. Their blocks
		// are left to the slow walk, which begins: an upgrade shall not be felt.
	default:
		t.logger.Error("the IPFS repository is another one than that of these pins; all are looked for and fetched again",
			"pins", t.store.records(api.StatusPinned), "was", known, "is", id)
		if err := t.loseAll(ctx, otherRepository); err != nil {
			return nil, err
		}
	}
	if rest, err = t.survey(ctx, begin, time.Now().Add(surveyTime)); err != nil || ctx.Err() != nil {
		return nil, err
	}
	if known != id {
		// Behind what was queued above: a crash in between begins anew.
		if err := t.store.setText(keyRepo, id, pebble.Sync); err != nil {
			return nil, err
		}
	}
	t.recognized.Do(func() { close(t.known) })
	return rest, nil
}

// loseAll queues everything that was pinned.
func (t *Tracker) loseAll(ctx context.Context, reason string) error {
	for ctx.Err() == nil {
		n, err := t.losePage(reason)
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

func (t *Tracker) losePage(reason string) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	page, err := t.store.page(api.StatusPinned, "", pageSize)
	if err != nil {
		return 0, err
	}
	b := t.store.batch()
	for _, e := range page {
		next := lost(e.rec, reason, t.clock.tick())
		if err := b.put(e.cid, &e.rec, &next); err != nil {
			return 0, err
		}
	}
	return len(page), b.commit()
}

// survey looks for the node's pins behind a CID, until the given time. It
// returns where it stopped; nil: it is through.
func (t *Tracker) survey(ctx context.Context, after string, until time.Time) (*string, error) {
	for ctx.Err() == nil && time.Now().Before(until) {
		page, err := t.store.page(api.StatusPinned, after, pageSize)
		if err != nil || len(page) == 0 {
			return nil, err
		}
		cids := make([]cid.Cid, len(page))
		for i, e := range page {
			if cids[i], err = castKey(e.cid); err != nil {
				return nil, err
			}
		}
		kept, err := t.node.Kept(ctx, cids)
		if err != nil {
			if ctx.Err() == nil {
				t.logger.Warn("the IPFS node cannot be asked for its pins", "err", err, "next_try", lookAgain)
			}
			break
		}
		for i, e := range page {
			if !kept[i] {
				if err := t.lose(e.cid, e.rec, pinGone); err != nil {
					return nil, err
				}
			}
		}
		after = page[len(page)-1].cid
	}
	return &after, nil
}

// surveyRest goes on with a survey until it is through.
func (t *Tracker) surveyRest(ctx context.Context, after *string) (err error) {
	for after != nil {
		if after, err = t.survey(ctx, *after, time.Now().Add(time.Hour)); err != nil {
			return err
		}
		if after != nil && !sleep(ctx, lookAgain) {
			return nil
		}
	}
	return nil
}

// lose queues what a record calls pinned and is not, unless it has moved on since
// it was read.
func (t *Tracker) lose(key string, seen record, reason string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	rec, known, err := t.store.get(key)
	if err != nil || !known || rec.status != api.StatusPinned || rec.since != seen.since || t.ops[key] != nil {
		return err
	}
	next := lost(rec, reason, t.clock.tick())
	b := t.store.batch()
	if err := b.put(key, &rec, &next); err != nil {
		return err
	}
	if err := b.commit(); err != nil {
		return err
	}
	wake(t.wakeFetch)
	if c, err := castKey(key); err == nil {
		t.logger.Error("a pin is not whole any more; it is fetched again", "cid", c, "why", reason)
	}
	return nil
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
