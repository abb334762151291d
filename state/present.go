package state

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"holdfast/internal/presence"
)

// present tells from memory of most CIDs that they are not pinned. A pinset that
// begins empty has it whole; of one that is opened with pins, or restored, all
// keys have to be read first, which Survey does once it pays.
type present struct {
	mu  sync.RWMutex
	set presence.Set

	missed atomic.Uint64 // CIDs that were looked up and not found while the set was not whole
}

// surveyFrom is how many CIDs are looked up in vain before all keys are read, at
// least.
const surveyFrom = 4096

// lacks says of each CID whether it is certain that it is not pinned.
func (p *present) lacks(cid string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return !p.set.May(cid)
}

// add remembers the CIDs that an entry is about to pin.
func (p *present) add(subjects []*subject) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range subjects {
		if s.value != nil {
			p.set.Add(s.c.KeyString())
		}
	}
}

func (p *present) stale(pins uint64) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.set.Stale(pins)
}

// Survey reads all keys of the pinset, without haste, when so many CIDs were
// looked up in vain that knowing them all would have cost no more, and again when
// most that is remembered is gone. It returns when ctx ends, with nil.
func (p *Pinset) Survey(ctx context.Context) error {
	for {
		select {
		case <-p.surveyDue:
		case <-ctx.Done():
			return nil
		}
		if p.surveyed() {
			continue // more were looked up in vain while it was under way
		}
		if err := p.survey(ctx); err != nil {
			// Nothing rests on it, so a disk that cannot be read for a while is no
			// reason to end: it is begun again when it would pay again. (What reads a
			// damaged database ends the next Apply.)
			p.current().present.missed.Store(0)
		}
	}
}

// surveyed says that the set is whole and worth its memory.
func (p *Pinset) surveyed() bool {
	g := p.current()
	g.mu.RLock()
	pins := g.meta.Pins
	g.mu.RUnlock()
	g.present.mu.RLock()
	defer g.present.mu.RUnlock()
	return g.present.set.Whole() && !g.present.set.Stale(pins)
}

// lookedUp counts CIDs that were looked up in vain.
func (p *Pinset) lookedUp(g *generation, missed int) {
	if missed == 0 {
		return
	}
	n := g.present.missed.Add(uint64(missed))
	if n < surveyFrom {
		return
	}
	g.mu.RLock()
	pins := g.meta.Pins
	g.mu.RUnlock()
	// Finding nothing costs about what reading four keys in order does.
	if n >= pins/4 {
		p.wakeSurvey()
	}
}

func (p *Pinset) wakeSurvey() {
	select {
	case p.surveyDue <- struct{}{}:
	default:
	}
}

func (p *Pinset) survey(ctx context.Context) error {
	// Between two entries: what is written from here on is added by Apply.
	p.writer.Lock()
	g, err := p.acquire()
	if err == nil {
		g.present.mu.Lock()
		g.present.set.Begin(g.meta.Pins)
		g.present.mu.Unlock()
	}
	p.writer.Unlock()
	if err != nil {
		return nil // it is being closed
	}
	defer p.release(g)
	whole, err := g.readKeys(func() bool { return ctx.Err() != nil || p.closing.Load() })
	if err != nil {
		return fmt.Errorf("read the keys of the pinset: %w", err)
	}
	if whole {
		g.present.mu.Lock()
		g.present.set.Complete()
		g.present.missed.Store(0)
		g.present.mu.Unlock()
	}
	return nil
}

// readKeys adds the CIDs of all pins to what is present; false: it was stopped.
func (g *generation) readKeys(stop func() bool) (whole bool, err error) {
	it, err := g.db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixPin}, UpperBound: after([]byte{prefixPin})})
	if err != nil {
		return false, err
	}
	for ok := it.First(); ok; {
		if stop() {
			return false, it.Close()
		}
		g.present.mu.Lock()
		for n := 0; ok && n < 1024; ok = it.Next() {
			g.present.set.Add(string(it.Key()[1:]))
			n++
		}
		g.present.mu.Unlock()
	}
	if err := it.Error(); err != nil {
		_ = it.Close() // says the same
		return false, err
	}
	return true, it.Close()
}
