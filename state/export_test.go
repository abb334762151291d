package state

import "context"

// Compact makes the database as small as it becomes.
func (p *Pinset) Compact(ctx context.Context) error {
	return p.gen.db.Compact(ctx, []byte{0}, []byte{255}, true)
}

// SetLimits lets a test reach the limits sooner.
func (p *Pinset) SetLimits(requests, changes, indexes uint64, tokens int) {
	p.limits = limits{requests: requests, changes: changes, indexes: indexes, tokens: tokens}
}

// SetNarrow lets a test reach the limit of what is sorted in memory sooner.
func (p *Pinset) SetNarrow(keys int) { p.narrow = keys }

// FailDisk makes the database's disk fail, as a write in the background does.
func (p *Pinset) FailDisk(err error) { p.gen.fence.Fail(err) }

// SurveyNow reads all keys, as Survey does when it is due.
func (p *Pinset) SurveyNow(ctx context.Context) error { return p.survey(ctx) }

// Surveyed says whether it is known from memory which CIDs may be pinned.
func (p *Pinset) Surveyed() bool {
	g := p.current()
	g.present.mu.RLock()
	defer g.present.mu.RUnlock()
	return g.present.set.Whole()
}
