package pinsvc

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"holdfast/api"
)

const (
	few  = 256  // pins whose statuses are asked for at once
	many = 4096 // pins that are looked at for one list though they may be no results
)

func (s *server) list(w http.ResponseWriter, r *http.Request) {
	q, err := parseList(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	found := newest{limit: q.limit}
	if err := s.search(r.Context(), q, &found); err != nil {
		s.fail(w, r, err)
		return
	}
	answer := struct {
		Count   int         `json:"count"`
		Results []pinStatus `json:"results"`
	}{Count: found.count, Results: []pinStatus{}}
	for _, row := range found.rows {
		answer.Results = append(answer.Results, newStatus(row.pin, row.info))
	}
	s.answer(w, r, http.StatusOK, answer)
}

// search finds what a query selects. Pins come from where the fewest have to be
// looked at: those that are named, those that an index finds if they are not too
// many, those that some peer has not pinned when pinned ones are not asked for,
// and else all, the latest first, until there are enough.
func (s *server) search(ctx context.Context, q listQuery, found *newest) error {
	if len(q.cids) > 0 || q.indexed() {
		pins, all, err := s.selected(ctx, q)
		switch {
		case err != nil:
			return err
		case len(q.cids) > 0 || all && len(pins) <= few:
			return s.offer(ctx, q, pins, found)
		case all && q.wantsPinned():
			return s.searchPages(ctx, q, found, pagesOf(pins))
		}
	}
	if !q.wantsPinned() {
		return s.searchUnpinned(ctx, q, found)
	}
	return s.searchPages(ctx, q, found, s.pages(ctx, q))
}

// selected returns the pins that match but for their status, and whether these
// are all. Of those that are named it returns all.
func (s *server) selected(ctx context.Context, q listQuery) (pins []api.Pin, all bool, err error) {
	for _, c := range q.cids {
		pin, err := s.service.Allocation(ctx, c)
		switch {
		case errors.Is(err, api.ErrNotFound):
		case err != nil:
			return nil, false, err
		case q.selects(pin):
			pins = append(pins, pin)
		}
	}
	if len(q.cids) > 0 {
		return pins, true, nil
	}
	for pin, err := range s.service.Allocations(ctx, q.filter()) {
		if err != nil {
			return nil, false, err
		}
		if !q.selects(pin) {
			continue
		}
		if len(pins) == many {
			return nil, false, nil
		}
		pins = append(pins, pin)
	}
	return pins, true, nil
}

// offer asks how far some pins are, and takes those that have a wanted status.
func (s *server) offer(ctx context.Context, q listQuery, pins []api.Pin, found *newest) error {
	for batch := range slices.Chunk(pins, few) {
		infos, err := s.statuses(ctx, batch)
		if err != nil {
			return err
		}
		for _, pin := range batch {
			found.offer(q, pin, infoOf(infos, pin))
		}
	}
	return nil
}

// searchPages looks at the latest pins until there are more results than asked
// for, or no more pins. Most are pinned, so that these are few.
func (s *server) searchPages(ctx context.Context, q listQuery, found *newest, next pager) error {
	for n := q.limit + 1; ; n = max(n, min(4*n, few)) {
		pins, err := next(n)
		if err != nil {
			return err
		}
		if q.anyStatus() {
			for _, pin := range pins {
				found.add(pin, api.GlobalPinInfo{})
			}
		} else if err := s.offer(ctx, q, pins, found); err != nil {
			return err
		}
		if found.count > q.limit {
			found.count, err = s.total(ctx, q, found.count)
			if err != nil {
				return err
			}
			break
		}
		if len(pins) < n {
			break
		}
	}
	if q.anyStatus() {
		return s.fillStatuses(ctx, found)
	}
	return nil
}

// unpinnedStatuses are those of which a peer has one at least when the service
// does not call a pin pinned.
const unpinnedStatuses = api.StatusError | api.StatusPinning | api.StatusUnpinning | api.StatusUnpinned | api.StatusQueued | api.StatusUnexpectedlyUnpinned

// searchUnpinned looks at the pins that some peer does not have.
func (s *server) searchUnpinned(ctx context.Context, q listQuery, found *newest) error {
	return s.eachUnpinned(ctx, q, func(pins []api.Pin, infos map[string]api.GlobalPinInfo) bool {
		for _, pin := range pins {
			found.offer(q, pin, infoOf(infos, pin))
		}
		return true
	})
}

// eachUnpinned calls fn with the pins that some peer does not have and that
// match but for their status, some at a time, until it returns false.
func (s *server) eachUnpinned(ctx context.Context, q listQuery, fn func([]api.Pin, map[string]api.GlobalPinInfo) bool) error {
	var pins []api.Pin
	more := true
	flush := func() error {
		infos, err := s.statuses(ctx, pins)
		if err == nil && len(pins) > 0 {
			more = fn(pins, infos)
		}
		pins = pins[:0]
		return err
	}
	for info, err := range s.service.StatusAll(ctx, api.StatusQuery{Filter: unpinnedStatuses}) {
		if err != nil {
			return err
		}
		pin, err := s.service.Allocation(ctx, info.Cid)
		if errors.Is(err, api.ErrNotFound) {
			continue // a peer is about to drop it
		}
		if err != nil {
			return err
		}
		if pin.Type != api.TypeData || !q.selects(pin) {
			continue
		}
		if pins = append(pins, pin); len(pins) < few {
			continue
		}
		if err := flush(); err != nil || !more {
			return err
		}
	}
	return flush()
}

// total is how many pins a query selects, of which more were found than it
// asked for. Where neither a counter nor an index tells, it is as many as were
// found: that there are more is what a client has to know. Those that have
// another status are subtracted as far as they are not too many.
func (s *server) total(ctx context.Context, q listQuery, found int) (int, error) {
	if q.name != "" && q.match != "exact" {
		return found, nil
	}
	n, err := s.count(ctx, q)
	if err != nil || q.anyStatus() {
		return n, err
	}
	looked := 0
	err = s.eachUnpinned(ctx, q, func(pins []api.Pin, infos map[string]api.GlobalPinInfo) bool {
		for _, pin := range pins {
			if !slices.Contains(q.statuses, serviceStatus(pin, infoOf(infos, pin))) {
				n--
			}
		}
		looked += len(pins)
		return looked < many
	})
	return max(n, found), err
}

// count counts what matches, whatever its status, of a query whose name, if any,
// is exact. In the seconds of its bounds, it depends on each pin what created
// makes of them.
func (s *server) count(ctx context.Context, q listQuery) (int, error) {
	inner := q.filter()
	edges := map[int64]bool{}
	inner.CreatedAfter, inner.CreatedBefore = time.Time{}, time.Time{}
	if !q.after.IsZero() {
		inner.CreatedAfter = q.after.Truncate(time.Second)
		edges[inner.CreatedAfter.Unix()] = true
	}
	if !q.before.IsZero() {
		inner.CreatedBefore = q.before.Truncate(time.Second)
		edges[inner.CreatedBefore.Unix()] = true
	}
	n, err := s.service.Count(ctx, inner)
	if err != nil {
		return 0, err
	}
	for second := range edges {
		edge := q.filter()
		edge.CreatedAfter, edge.CreatedBefore = time.Unix(second-1, 0), time.Unix(second+1, 0)
		for pin, err := range s.service.Allocations(ctx, edge) {
			if err != nil {
				return 0, err
			}
			if q.selects(pin) {
				n++
			}
		}
	}
	return int(n), nil
}

// fillStatuses asks for the statuses of the results.
func (s *server) fillStatuses(ctx context.Context, found *newest) error {
	infos, err := s.statuses(ctx, found.pins())
	if err != nil {
		return err
	}
	for i, row := range found.rows {
		found.rows[i].info = infoOf(infos, row.pin)
	}
	return nil
}

// statuses asks for those of some pins, by the keys of their CIDs.
func (s *server) statuses(ctx context.Context, pins []api.Pin) (map[string]api.GlobalPinInfo, error) {
	out := map[string]api.GlobalPinInfo{}
	if len(pins) == 0 {
		return out, nil // no CIDs would mean all of them
	}
	query := api.StatusQuery{}
	for _, pin := range pins {
		query.Cids = append(query.Cids, pin.Cid)
	}
	for info, err := range s.service.StatusAll(ctx, query) {
		if err != nil {
			return nil, err
		}
		out[info.Cid.KeyString()] = info
	}
	return out, nil
}

func infoOf(infos map[string]api.GlobalPinInfo, pin api.Pin) api.GlobalPinInfo {
	if info, ok := infos[pin.Cid.KeyString()]; ok {
		return info
	}
	return pin.GlobalInfo()
}
