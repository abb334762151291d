package pintracker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"holdfast/api"
)

// commitAll pins what was fetched: what waits at that instant in one call,
// which the node flushes once.
func (t *Tracker) commitAll(ctx context.Context) error {
	for {
		t.mu.Lock()
		n := min(len(t.fetched), batchSize)
		ops := t.fetched[:n:n]
		t.fetched = t.fetched[n:]
		t.mu.Unlock()
		if n > 0 {
			if err := t.commit(ctx, ops); err != nil {
				return err
			}
			wake(t.wakeFetch)
			breathe(ctx)
		} else {
			select {
			case <-t.wakeCommit:
			case <-ctx.Done():
				return nil
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// breathe waits for a moment.
func breathe(ctx context.Context) {
	timer := time.NewTimer(breath)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// commit has the node pin what was fetched whole, and only then calls it pinned
// (INV-PINNED).
func (t *Tracker) commit(ctx context.Context, ops []*op) error {
	if err := t.fence(ops); err != nil {
		return err
	}
	pins := make([]api.Pin, len(ops))
	for i, o := range ops {
		pins[i] = o.pin
	}
	errs := inParts(ctx, len(pins), func(ctx context.Context, from, to int) error {
		return t.node.Pin(ctx, pins[from:to])
	})
	failed := make(map[*op]error, len(ops))
	for i, o := range ops {
		if errs[i] != nil {
			failed[o] = errs[i]
		}
	}
	return t.settle(ops, func(o *op, rec record, now int64) record {
		o.observe(&rec)
		switch err := failed[o]; {
		case err == nil:
			return pinned(rec, o.pin.Mode, now)
		case ctx.Err() != nil:
			return aborted(rec, now)
		default:
			return t.policy.failed(rec, api.StatusPinError, err, now)
		}
	})
}

// fence makes durable that these operations were queued.
func (t *Tracker) fence(ops []*op) error {
	var tick int64
	for _, o := range ops {
		tick = max(tick, o.queued)
	}
	return t.store.fence(tick, func() int64 {
		t.mu.Lock() // whoever has taken a tick holds it until all is written
		defer t.mu.Unlock()
		return t.clock.latest()
	})
}

// settle ends operations: it writes what each came to, and then what the
// pinset asks for by now.
func (t *Tracker) settle(ops []*op, outcome func(*op, record, int64) record) error {
	var events []func()
	err := func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		b := t.store.batch()
		for _, o := range ops {
			delete(t.ops, o.cid)
			pin, wanted, err := t.wanted(o.cid)
			if err != nil {
				return err
			}
			now := t.clock.tick()
			rec := outcome(o, o.rec, now)
			t.did.ended(rec)
			events = t.tell(events, o, rec)
			if rec.status == api.StatusUnpinned {
				next, again := t.policy.converge(record{}, false, pin, wanted, now)
				if !again {
					err = b.put(o.cid, &o.rec, nil)
				} else {
					err = b.put(o.cid, &o.rec, &next)
				}
			} else {
				next, _ := t.policy.converge(rec, true, pin, wanted, now)
				err = b.put(o.cid, &o.rec, &next)
			}
			if err != nil {
				return err
			}
		}
		return b.commit()
	}()
	if err != nil {
		return err
	}
	wake(t.wakeFetch)
	wake(t.wakeUnpin)
	for _, event := range events {
		event()
	}
	return nil
}

// tell adds the event that belongs to an outcome.
func (t *Tracker) tell(events []func(), o *op, rec record) []func() {
	var event func(api.PinInfo)
	switch rec.status {
	case api.StatusPinned:
		event = t.events.Pinned
	case api.StatusPinError, api.StatusUnpinError:
		event = t.events.Failed
	case api.StatusUnpinned:
		if t.events.Unpinned == nil {
			return events
		}
		event = func(info api.PinInfo) { t.events.Unpinned(info.Cid.Cid) }
	}
	if event == nil {
		return events
	}
	c, err := cid.Cast([]byte(o.cid))
	if err != nil {
		return events // cannot be: wanted has read it before
	}
	info := rec.info(api.NewCid(c), t.cfg.Self)
	return append(events, func() { event(info) })
}

// unpinAll lets go of what waits for it, in batches.
func (t *Tracker) unpinAll(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		ops, wait, err := t.startUnpins()
		if err != nil {
			return err
		}
		if len(ops) > 0 {
			if err := t.unpin(ctx, ops); err != nil {
				return err
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-t.wakeUnpin:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// startUnpins takes up to a batch of what is due.
func (t *Tracker) startUnpins() (ops []*op, wait time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.tick()
	q := &t.queues[classUnpin]
	b := t.store.batch()
	for len(ops) < batchSize {
		p, found, err := q.peek(t.store, now)
		if err != nil {
			return nil, 0, err
		}
		if !found {
			break
		}
		q.pop()
		rec, known, err := t.store.get(p.cid)
		if err != nil {
			return nil, 0, err
		}
		if !known || rec.class != classUnpin || rec.due != p.due || t.ops[p.cid] != nil {
			continue
		}
		pin, wanted, err := t.wanted(p.cid)
		if err != nil {
			return nil, 0, err
		}
		next, _ := t.policy.converge(rec, true, pin, wanted, now)
		if wanted {
			wake(t.wakeFetch)
		} else {
			next.status, next.since, next.class, next.due = api.StatusUnpinning, now, classNone, 0
			o := &op{cid: p.cid, rec: next, queued: rec.since, stage: unpinning}
			t.ops[p.cid] = o
			ops = append(ops, o)
		}
		if err := b.put(p.cid, &rec, &next); err != nil {
			return nil, 0, err
		}
	}
	wait = time.Hour
	if q.next > 0 {
		wait = time.Duration(max(1, q.next-now))
	}
	return ops, wait, b.commit()
}

func (t *Tracker) unpin(ctx context.Context, ops []*op) error {
	ops, err := t.released(ctx, ops)
	if err != nil || len(ops) == 0 {
		return err
	}
	if err := t.fence(ops); err != nil {
		return err
	}
	cids := make([]cid.Cid, len(ops))
	for i, o := range ops {
		c, err := cid.Cast([]byte(o.cid))
		if err != nil {
			return fmt.Errorf("status record of no CID %x: %w", o.cid, err)
		}
		cids[i] = c
	}
	errs := inParts(ctx, len(cids), func(ctx context.Context, from, to int) error {
		return t.node.Unpin(ctx, cids[from:to])
	})
	failed := make(map[*op]error, len(ops))
	for i, o := range ops {
		if errs[i] != nil {
			failed[o] = errs[i]
		}
	}
	return t.settle(ops, func(o *op, rec record, now int64) record {
		switch err := failed[o]; {
		case err == nil:
			rec.status = api.StatusUnpinned
		case ctx.Err() != nil:
			rec.status, rec.since, rec.class, rec.due = api.StatusUnpinQueued, now, classUnpin, now
		default:
			return t.policy.failed(rec, api.StatusUnpinError, err, now)
		}
		return rec
	})
}

// released puts aside the pins that moved and that their new holders do not
// have yet, and returns the rest. So a copy is dropped only when enough others
// exist, whoever moved it and whatever failed on the way.
func (t *Tracker) released(ctx context.Context, ops []*op) ([]*op, error) {
	keep := make([]bool, len(ops))
	var asking errgroup.Group
	asking.SetLimit(askAtOnce)
	for i, o := range ops {
		c, err := cid.Cast([]byte(o.cid))
		if err != nil {
			return nil, fmt.Errorf("status record of no CID %x: %w", o.cid, err)
		}
		pin, exists, err := t.source.Get(c)
		if err != nil {
			return nil, err
		}
		if exists && !pin.AllocatedTo(t.cfg.Self) {
			asking.Go(func() error { keep[i] = !t.release(ctx, pin); return nil })
		}
	}
	_ = asking.Wait() // the questions have no errors
	var free, held []*op
	for i, o := range ops {
		if keep[i] {
			held = append(held, o)
		} else {
			free = append(free, o)
		}
	}
	if len(held) == 0 {
		return free, nil
	}
	return free, t.settle(held, func(_ *op, rec record, now int64) record {
		rec.status, rec.class, rec.due = api.StatusUnpinQueued, classUnpin, now+int64(handOver)
		rec.code, rec.errText = "", "kept until enough of the peers that it moved to have it"
		return rec
	})
}

// inParts calls f for all n, and if that fails for one after the other, so
// that one that cannot succeed does not fail the rest. When the first few all
// fail it is not about them, and the rest are spared. When ctx ends, f may go
// on for a while, since whether it succeeded would be unknown.
func inParts(ctx context.Context, n int, f func(ctx context.Context, from, to int) error) []error {
	const enough = 8
	fctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, cancel) })
	defer stop()
	errs := make([]error, n)
	whole := f(fctx, 0, n)
	if whole == nil {
		return errs
	}
	errs[0] = whole
	succeeded := false
	for i := 0; i < n && n > 1; i++ {
		if ctx.Err() != nil || i == enough && !succeeded {
			for ; i < n; i++ {
				errs[i] = errors.Join(whole, ctx.Err())
			}
			break
		}
		errs[i] = f(fctx, i, i+1)
		succeeded = succeeded || errs[i] == nil
	}
	return errs
}
