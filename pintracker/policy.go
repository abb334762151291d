package pintracker

import (
	"math/rand/v2"
	"time"

	"holdfast/api"
)

// policy says what becomes of records. It is pure but for its dice.
type policy struct {
	retryMin, retryMax, deadDelay time.Duration
	deadAfter                     uint64
	young                         time.Duration
	rand                          *rand.Rand
}

// converge decides what a record must become, given what the pinset asks of
// this peer now. No operation may be under way for the CID, except that a
// caller may compare only. It is level-triggered: it needs to know nothing of
// how things came to be.
func (p *policy) converge(rec record, known bool, pin api.Pin, wanted bool, now int64) (record, bool) {
	switch {
	case !wanted && !known:
		return rec, false
	case !wanted:
		return p.convergeAway(rec, now)
	case !known:
		return p.queued(record{}, pin, now), true
	}
	old := rec
	rec = rightClock(rec, now)
	if rec.revision != pin.Revision {
		rec.heard(pin)
	}
	switch rec.status {
	case api.StatusPinned:
		if rec.mode != pin.Mode {
			return p.queued(rec, pin, now), true
		}
	case api.StatusPinQueued, api.StatusPinning:
		rec.mode = pin.Mode
	case api.StatusPinError:
		rec.mode = pin.Mode
		if rec.revision != old.revision {
			// Somebody asked again, or its replicas moved: worth a try now.
			rec.status, rec.since, rec.class, rec.due = api.StatusPinQueued, now, classRetry, now
		}
	default:
		// It was on its way out. Whether the node still has it does not matter:
		// fetching what is local is cheap, and pinning twice is pinning once.
		return p.queued(rec, pin, now), true
	}
	return rec, rec != old
}

func (p *policy) convergeAway(rec record, now int64) (record, bool) {
	switch rec.status {
	case api.StatusUnpinQueued, api.StatusUnpinning, api.StatusUnpinError:
		old := rec
		rec = rightClock(rec, now)
		return rec, rec != old
	}
	// Even what was never pinned is unpinned: after a crash the record may be
	// behind the node.
	rec.status, rec.since, rec.class, rec.due = api.StatusUnpinQueued, now, classUnpin, now
	rec.attempts, rec.code, rec.errText, rec.priority, rec.reason = 0, "", "", false, ""
	return rec, true
}

// rightClock returns a record whose times make sense. The machine's clock may
// have been ahead when the record was written and be right now, which only a
// restart brings to light: a delay counts from now then, and what is only
// queued is due.
func rightClock(rec record, now int64) record {
	switch rec.status {
	case api.StatusPinError, api.StatusUnpinError:
		if rec.since > now {
			rec.since, rec.due = now, now+max(rec.due-rec.since, 0)
		}
	default:
		if rec.due > now+int64(handOver) {
			rec.due = now
		}
	}
	return rec
}

// queued begins anew with a pin.
func (p *policy) queued(rec record, pin api.Pin, now int64) record {
	rec = record{status: api.StatusPinQueued, since: now, mode: pin.Mode,
		class: classBacklog, due: now, blocks: rec.blocks, bytes: rec.bytes, lastBlock: rec.lastBlock}
	rec.heard(pin)
	if time.Unix(0, now).Sub(pin.Timestamp) < p.young {
		rec.class, rec.priority = classFresh, true
	}
	return rec
}

// failed is what a record becomes when an attempt to pin or unpin it failed.
// The delay doubles with each attempt; after many, and at once when the
// content itself is at fault, it is long.
func (p *policy) failed(rec record, status api.TrackerStatus, err error, now int64) record {
	rec.status, rec.since = status, now
	rec.attempts++
	rec.code, rec.errText = api.CodeOf(err), err.Error()
	rec.class = classRetry
	if status == api.StatusUnpinError {
		rec.class = classUnpin
	}
	delay := p.retryMax
	if shift := rec.attempts - 1; shift < 20 {
		delay = min(p.retryMin<<shift, p.retryMax)
	}
	switch {
	case rec.code == api.CodeNoSpace:
		// The content is not at fault, and space may come back any time.
		delay = min(delay, p.retryMin*16)
	case rec.class == classRetry && (rec.attempts >= p.deadAfter || rec.code == api.CodeInvalid):
		rec.class, delay, rec.priority = classDead, p.deadDelay, false
	}
	// A fifth more or less, so that what failed together does not come back together.
	delay += time.Duration((p.rand.Float64()*0.4 - 0.2) * float64(delay))
	rec.due = now + int64(delay)
	return rec
}

// pinned is what a record becomes when the node has pinned it in a mode.
func pinned(rec record, mode api.PinMode, now int64) record {
	rec.status, rec.since, rec.mode = api.StatusPinned, now, mode
	rec.class, rec.due = classNone, 0
	rec.attempts++
	rec.code, rec.errText, rec.reason = "", "", ""
	return rec
}

// lost is what a pinned record becomes when the node does not have all of it any
// more: it is fetched again, as far as that is needed.
func lost(rec record, reason string, now int64) record {
	rec.status, rec.since, rec.class, rec.due = api.StatusPinQueued, now, classBacklog, now
	rec.attempts, rec.code, rec.errText, rec.priority, rec.reason = 0, "", "", false, reason
	return rec
}

// aborted is what a record becomes when its attempt was called off: it waits
// again, as if it had not been tried.
func aborted(rec record, now int64) record {
	rec.status, rec.since, rec.due = api.StatusPinQueued, now, now
	switch {
	case rec.attempts == 0 && rec.priority:
		rec.class = classFresh
	case rec.attempts == 0:
		rec.class = classBacklog
	default:
		rec.class = classRetry
	}
	return rec
}
