package pintracker

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// asked are the pins that somebody wants looked at. Guarded by Tracker.mu.
type asked struct {
	urgent   []*question // by Recover, which waits for what is found
	repeated []string    // pinned again, in order
	waiting  map[string]struct{}
}

// question is a look at one pin that somebody waits for.
type question struct {
	key  string
	done chan struct{} // closed when it is answered
	err  error         // why it could not be
}

// ask has a pinned pin looked at when there is time for it. Too many make it a
// walk over all: a list of a million repeated pins shall cost next to nothing.
// Under mu.
func (t *Tracker) ask(key string) {
	a := &t.looks
	if _, waits := a.waiting[key]; waits {
		return
	}
	if len(a.repeated) >= maxAsked {
		t.hurry = true
		wake(t.wakeHurry)
		return
	}
	if a.waiting == nil {
		a.waiting = map[string]struct{}{}
	}
	a.waiting[key] = struct{}{}
	a.repeated = append(a.repeated, key)
	wake(t.wakeAsked)
}

// askNow has a pin looked at before others.
func (t *Tracker) askNow(key string) *question {
	q := &question{key: key, done: make(chan struct{})}
	t.mu.Lock()
	t.looks.urgent = append(t.looks.urgent, q)
	t.mu.Unlock()
	wake(t.wakeAsked)
	return q
}

// nextAsked takes what is to be looked at next; nil: nothing. A repeated pin is
// a question that nobody waits for.
func (t *Tracker) nextAsked() (q *question, urgent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := &t.looks
	if len(a.urgent) > 0 {
		q, a.urgent = a.urgent[0], a.urgent[1:]
		return q, true
	}
	if len(a.repeated) == 0 {
		a.repeated = nil // and its memory
		return nil, false
	}
	q = &question{key: a.repeated[0], done: make(chan struct{})}
	a.repeated = a.repeated[1:]
	delete(a.waiting, q.key)
	return q, false
}

func (t *Tracker) urgent() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.looks.urgent) > 0
}

// checkAsked looks at what was asked for.
func (t *Tracker) checkAsked(ctx context.Context) error {
	slow := &pace{blocks: askedPace, bytes: askedBytes, skip: t.urgent}
	for ctx.Err() == nil {
		q, urgent := t.nextAsked()
		if q == nil {
			select {
			case <-t.wakeAsked:
			case <-ctx.Done():
			}
			continue
		}
		how := slow.wait
		if urgent {
			how = nil
		}
		cannot, err := t.check(ctx, q.key, how)
		q.err = cannot
		close(q.done)
		if err != nil {
			return err
		}
	}
	return nil
}

// check looks whether all that a record calls pinned is there, and queues it if
// not. cannot is why that is not known; err is the store's or the source's.
func (t *Tracker) check(ctx context.Context, key string, pace func(context.Context, int, uint64) error) (cannot, err error) {
	rec, known, err := t.store.get(key)
	if err != nil || !known || rec.status != api.StatusPinned {
		return nil, err
	}
	pin, wanted, err := t.wanted(key)
	if err != nil || !wanted || pin.Mode != rec.mode {
		return nil, err // what it shall be is looked at elsewhere
	}
	kept, err := t.node.Kept(ctx, []cid.Cid{pin.Cid.Cid})
	if err != nil {
		return fmt.Errorf("look for the pin: %w", err), nil
	}
	if !kept[0] {
		return nil, t.lose(key, rec, pinGone)
	}
	missing, err := t.node.Check(ctx, pin, pace)
	switch {
	case err == nil && !missing.Defined(), ctx.Err() != nil:
		return nil, nil
	case err == nil:
		return nil, t.lose(key, rec, t.reasonOf(missing))
	case api.CodeOf(err) == api.CodeInvalid: // it was pinned by a release that knew no better
		return nil, t.lose(key, rec, err.Error())
	}
	return fmt.Errorf("look for the blocks: %w", err), nil
}

// reasonOf says why a block counts as missing.
func (t *Tracker) reasonOf(missing cid.Cid) string {
	for _, c := range t.node.Damaged() {
		if bytes.Equal(c.Hash(), missing.Hash()) {
			return fmt.Sprintf("damaged block %s: it is fetched again", missing)
		}
	}
	return fmt.Sprintf("missing block %s: it is fetched again", missing)
}

// pace makes a look at many blocks take its time: small ones cost a disk by their
// number, large ones by their bytes. Each goroutine has its own.
type pace struct {
	blocks int         // in a second, at most
	bytes  int         // in a second, at most
	skip   func() bool // then it does not; nil: never
	debt   time.Duration
}

// paceStep is how long a look may run ahead of its pace.
const paceStep = 50 * time.Millisecond

func (p *pace) wait(ctx context.Context, blocks int, bytes uint64) error {
	if p.skip != nil && p.skip() {
		return ctx.Err()
	}
	seconds := max(float64(blocks)/float64(p.blocks), float64(bytes)/float64(p.bytes))
	if p.debt += time.Duration(seconds * float64(time.Second)); p.debt < paceStep {
		return ctx.Err()
	}
	debt := p.debt
	p.debt = 0
	if !sleep(ctx, debt) {
		return ctx.Err()
	}
	return nil
}
