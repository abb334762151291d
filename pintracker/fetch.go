package pintracker

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/api"
)

var (
	errObsolete = errors.New("the pinset no longer asks for it")
	errStalled  = errors.New("no block came")
)

type stage uint8

const (
	fetching   stage = iota
	failing          // the fetch is over and came to nothing
	committing       // waits for Node.Pin or is in it; it can no longer be called off
	unpinning
)

// op is what is under way for one CID: at any time at most one thing is.
type op struct {
	cid    string
	rec    record // as it stands; nobody else writes it while this is under way
	queued int64  // the tick at which its record was queued
	pin    api.Pin
	class  class
	// These are guarded by Tracker.mu.
	stage    stage
	parked   bool
	obsolete bool
	cancel   context.CancelCauseFunc
	// Progress comes from the node's goroutines.
	begun         time.Time
	blocks, bytes atomic.Uint64
	lastBlock     atomic.Pointer[time.Time] // nil: none came
}

// callOff ends a fetch early. Under Tracker.mu.
func (o *op) callOff(cause error) {
	if o.cancel != nil { // else it is about to begin, and looks at obsolete itself
		o.cancel(cause)
	}
}

func (o *op) progress(blocks, bytes uint64) {
	if blocks > o.blocks.Load() || bytes > o.bytes.Load() {
		o.blocks.Store(blocks)
		o.bytes.Store(bytes)
		now := time.Now()
		o.lastBlock.Store(&now)
	}
}

// silent says for how long no block came, by the time that passed: a clock that
// is set does not call off every fetch, nor keep a dead one.
func (o *op) silent(now time.Time) time.Duration {
	if last := o.lastBlock.Load(); last != nil {
		return now.Sub(*last)
	}
	return now.Sub(o.begun)
}

// observe copies progress into a record.
func (o *op) observe(rec *record) {
	if last := o.lastBlock.Load(); last != nil {
		rec.blocks, rec.bytes, rec.lastBlock = o.blocks.Load(), o.bytes.Load(), last.UnixNano()
	}
}

// turns is whose turn it is to be asked first. Fresh pins get most, and nobody
// starves. Whoever has nothing leaves its turn to the others, in their order.
var turns = [...]class{
	classFresh, classFresh, classFresh, classBacklog, classFresh, classFresh, classRetry, classFresh,
	classFresh, classBacklog, classFresh, classFresh, classRetry, classBacklog, classFresh, classDead,
}

// share bounds the workers of a class: what failed before may not take all.
func (t *Tracker) share(c class) int {
	switch c {
	case classRetry:
		return max(1, t.cfg.Workers/2)
	case classDead:
		return max(1, t.cfg.Workers/8)
	}
	return t.cfg.Workers
}

// fetchAll starts fetches as they fall due and as workers become free.
func (t *Tracker) fetchAll(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // first, or nobody would tell the running ones
	failed := make(chan error, 1)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-t.wakeFetch:
		case <-timer.C:
		}
		t.park(time.Now())
		started, wait, err := t.startFetches()
		if err != nil {
			return err
		}
		for _, o := range started {
			running.Go(func() {
				if err := t.fetch(ctx, o); err != nil {
					select {
					case failed <- err:
					default: // one is enough to stop
					}
				}
			})
		}
		timer.Reset(wait)
		t.tellQueue()
		if len(started) > 0 {
			breathe(ctx)
		}
	}
}

// park takes workers from fetches that no block reaches, gives them back when
// blocks come again, and calls off those that have been silent for too long.
// So dead content holds up nothing, however much of it there is.
func (t *Tracker) park(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parked []*op
	for _, o := range t.ops {
		if o.stage != fetching {
			continue
		}
		silent := o.silent(now)
		if parked := silent >= parkAfter; parked != o.parked {
			o.parked = parked
			if parked {
				t.active[o.class]--
				t.parked++
			} else {
				t.active[o.class]++
				t.parked--
			}
		}
		if silent >= t.cfg.Patience {
			o.callOff(errStalled)
		}
		if o.parked {
			parked = append(parked, o)
		}
	}
	excess := len(parked) - parkedPer*t.cfg.Workers
	if excess <= 0 {
		return
	}
	slices.SortFunc(parked, func(a, b *op) int { // the worst class first, then the oldest
		return cmp.Or(cmp.Compare(b.class, a.class), a.begun.Compare(b.begun))
	})
	for _, o := range parked[:excess] {
		o.callOff(errStalled)
	}
}

// startFetches takes what is due, as many as there are workers free, and
// returns how long to wait before looking again unasked.
func (t *Tracker) startFetches() (started []*op, wait time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock.tick()
	b := t.store.batch()
	for t.free() > 0 && now >= t.paused {
		q, p, found, err := t.choose(now)
		if err != nil {
			return nil, 0, err
		}
		if !found {
			break
		}
		q.pop()
		o, err := t.begin(b, q.class, p, now)
		if err != nil {
			return nil, 0, err
		}
		if o != nil {
			started = append(started, o)
		}
	}
	if err := b.commit(); err != nil {
		return nil, 0, err
	}
	return started, t.idle(now), nil
}

// free counts the workers that have nothing to do. Under mu.
func (t *Tracker) free() int {
	free := t.cfg.Workers
	for _, n := range t.active {
		free -= n
	}
	if len(t.fetched) >= maxFetched {
		return 0
	}
	return free
}

// choose picks the next place. Under mu.
func (t *Tracker) choose(now int64) (*queue, place, bool, error) {
	t.turn++
	for _, c := range [...]class{turns[t.turn%uint(len(turns))], classFresh, classBacklog, classRetry, classDead} {
		if t.active[c] >= t.share(c) {
			continue
		}
		q := &t.queues[c]
		if p, found, err := q.peek(t.store, now); found || err != nil {
			return q, p, found, err
		}
	}
	return nil, place{}, false, nil
}

// begin starts on what stood in a place, unless it has left it since. Under mu.
func (t *Tracker) begin(b *batch, c class, p place, now int64) (*op, error) {
	rec, known, err := t.store.get(p.cid)
	if err != nil || !known || rec.class != c || rec.due != p.due || t.ops[p.cid] != nil {
		return nil, err
	}
	pin, wanted, err := t.wanted(p.cid)
	if err != nil {
		return nil, err
	}
	next, _ := t.policy.converge(rec, true, pin, wanted, now)
	if !wanted {
		wake(t.wakeUnpin)
		return nil, b.put(p.cid, &rec, &next)
	}
	next.status, next.since, next.class, next.due = api.StatusPinning, now, classNone, 0
	if err := b.put(p.cid, &rec, &next); err != nil {
		return nil, err
	}
	o := &op{cid: p.cid, rec: next, queued: rec.since, pin: pin, class: c, begun: time.Now()}
	t.ops[p.cid] = o
	t.active[c]++
	return o, nil
}

// idle says for how long nothing will be due. Under mu.
func (t *Tracker) idle(now int64) time.Duration {
	wait := time.Hour
	if len(t.ops) > 0 {
		wait = time.Second // to park
	}
	if t.paused > now {
		return min(wait, time.Duration(t.paused-now))
	}
	for i := range t.queues {
		// What is due already waits for a worker, and is told when there is one.
		if q := &t.queues[i]; q.class != classUnpin && len(q.ahead) == 0 && q.next > now {
			wait = min(wait, time.Duration(q.next-now))
		}
	}
	return wait
}

// fetch runs one fetch and ends or passes on its operation.
func (t *Tracker) fetch(ctx context.Context, o *op) error {
	fctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t.mu.Lock()
	o.cancel = cancel
	if o.obsolete {
		cancel(errObsolete)
	}
	t.mu.Unlock()
	err := t.node.Fetch(fctx, o.pin, t.holders(o.pin), o.progress)
	if err != nil && errors.Is(context.Cause(fctx), errStalled) {
		err = api.Errorf(api.CodeUnavailable, "no block came for %s, %d blocks came before: no peer that is reachable has the rest",
			o.silent(time.Now()).Round(time.Second), o.blocks.Load())
	}
	t.mu.Lock()
	if o.parked {
		t.parked--
	} else {
		t.active[o.class]--
	}
	wake(t.wakeFetch)
	if err == nil && !o.obsolete && ctx.Err() == nil {
		o.stage = committing
		t.fetched = append(t.fetched, o)
		t.mu.Unlock()
		wake(t.wakeCommit)
		return nil
	}
	if err != nil && api.CodeOf(err) == api.CodeNoSpace {
		// Trying all others would only fail them, too.
		t.paused = t.clock.tick() + int64(spacePause)
	}
	o.stage = failing
	off := o.obsolete || ctx.Err() != nil
	t.mu.Unlock()
	return t.settle([]*op{o}, func(o *op, rec record, now int64) record {
		o.observe(&rec)
		if off {
			return aborted(rec, now)
		}
		return t.policy.failed(rec, api.StatusPinError, err, now)
	})
}
