package pinsvc

import (
	"bytes"
	"context"
	"slices"
	"time"

	"holdfast/api"
)

// pager returns the next n pins that match but for their status, the latest
// first; fewer when there are no more.
type pager func(n int) ([]api.Pin, error)

// pagesOf are pages of pins that are at hand.
func pagesOf(pins []api.Pin) pager {
	slices.SortFunc(pins, func(a, b api.Pin) int { return newerFirst(row{at: created(a), pin: a}, row{at: created(b), pin: b}) })
	return func(n int) ([]api.Pin, error) {
		page := pins[:min(n, len(pins))]
		pins = pins[len(page):]
		return page, nil
	}
}

// pages are pages of the whole pinset.
func (s *server) pages(ctx context.Context, q listQuery) pager {
	find := s.latest
	return func(n int) ([]api.Pin, error) {
		page, ok, err := find(ctx, q, n)
		if err == nil && !ok {
			find = s.scan
			page, _, err = find(ctx, q, n)
		}
		if len(page) > 0 {
			q.before = created(page[len(page)-1])
		}
		return page, err
	}
}

// latest goes back in time until it has n pins. It is not ok when too many on
// the way do not match: a step back costs as much as several of a scan.
func (s *server) latest(ctx context.Context, q listQuery, n int) (_ []api.Pin, ok bool, err error) {
	page, missed := newest{limit: n}, 0
	filter := q.filter()
	filter.Name, filter.Meta = "", nil // so that what does not match is seen here
	for pin, err := range s.service.Newest(ctx, filter) {
		if err != nil {
			return nil, false, err
		}
		// All of one second are needed: created orders them anew.
		if len(page.rows) == n && pin.Timestamp.Before(page.rows[n-1].at.Truncate(time.Second)) {
			break
		}
		if q.selects(pin) {
			page.add(pin, api.GlobalPinInfo{})
		} else if missed++; missed > many && len(page.rows) < n {
			return nil, false, nil
		}
	}
	return page.pins(), true, nil
}

// scan looks at all that the pinset can select, and returns the latest, n or
// more of them.
func (s *server) scan(ctx context.Context, q listQuery, n int) (_ []api.Pin, ok bool, err error) {
	n = max(n, few)
	var pins []api.Pin
	latest := func() {
		next := pagesOf(pins)
		pins, _ = next(n)
	}
	for pin, err := range s.service.Allocations(ctx, q.filter()) {
		if err != nil {
			return nil, false, err
		}
		if q.selects(pin) {
			pins = append(pins, pin)
		}
		if len(pins) == 4*n {
			latest()
		}
	}
	latest()
	return pins, true, nil
}

// newest keeps the limit newest of what it is given, newest first, and counts
// all.
type newest struct {
	limit int
	count int
	rows  []row
}

type row struct {
	at   time.Time
	pin  api.Pin
	info api.GlobalPinInfo
}

// offer adds a pin whose status is asked for.
func (n *newest) offer(q listQuery, pin api.Pin, info api.GlobalPinInfo) {
	if slices.Contains(q.statuses, serviceStatus(pin, info)) {
		n.add(pin, info)
	}
}

func (n *newest) add(pin api.Pin, info api.GlobalPinInfo) {
	n.count++
	r := row{at: created(pin), pin: pin, info: info}
	at, _ := slices.BinarySearchFunc(n.rows, r, newerFirst)
	if at == n.limit {
		return
	}
	if len(n.rows) == n.limit {
		n.rows = n.rows[:n.limit-1]
	}
	n.rows = slices.Insert(n.rows, at, r)
}

func (n *newest) pins() []api.Pin {
	var out []api.Pin
	for _, row := range n.rows {
		out = append(out, row.pin)
	}
	return out
}

func newerFirst(a, b row) int {
	if c := b.at.Compare(a.at); c != 0 {
		return c
	}
	return bytes.Compare(a.pin.Cid.Bytes(), b.pin.Cid.Bytes())
}
