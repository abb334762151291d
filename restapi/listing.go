package restapi

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/api"
)

// headerCount is the number of items that a listing has in all.
const headerCount = "X-Total-Count"

func (s *server) allocations(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r)
	filter := q.pinFilter()
	if types := q.types("filter"); len(types) > 0 {
		if len(filter.Types) > 0 {
			q.rejectWith("type", api.Errorf(api.CodeInvalid, "it means the same as filter; give one of them"))
		}
		filter.Types = types
	}
	filter.After, filter.Limit = q.cid("after"), q.count("limit")
	count := q.boolean("count", false)
	if q.err != nil {
		s.fail(w, r, q.err)
		return
	}
	if count || r.Method == http.MethodHead {
		n, err := s.service.Count(r.Context(), filter)
		s.answerCount(w, r, count, n, err)
		return
	}
	stream(s, w, r, s.service.Allocations(r.Context(), filter), (*encoder).pin)
}

func (s *server) statusAll(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r)
	ask := api.StatusQuery{Cids: q.cids("cids"), Local: q.boolean("local", false), After: q.cid("after"), Limit: q.count("limit"),
		Pins: q.pinFilter()}
	filter, err := api.ParseTrackerStatus(q.text("filter"))
	q.rejectWith("filter", err)
	ask.Filter = filter
	count := q.boolean("count", false)
	if q.err != nil {
		s.fail(w, r, q.err)
		return
	}
	// Who holds what does not change how many pins there are.
	counted := ask.Filter == api.StatusUndefined && len(ask.Cids) == 0 && !ask.Local
	if count || counted && r.Method == http.MethodHead {
		n, err := s.countStatuses(r.Context(), ask, counted)
		s.answerCount(w, r, count, n, err)
		return
	}
	stream(s, w, r, s.service.StatusAll(r.Context(), ask), (*encoder).status)
}

// countStatuses goes through all statuses when the pinset cannot tell.
func (s *server) countStatuses(ctx context.Context, ask api.StatusQuery, counted bool) (uint64, error) {
	if counted {
		return s.service.Count(ctx, ask.Pins)
	}
	ask.After, ask.Limit = api.Cid{}, 0
	n := uint64(0)
	for _, err := range s.service.StatusAll(ctx, ask) {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// answerCount answers how many items a listing has: with a document if that
// was asked for, else with the header alone, and 204 if there are none, like
// the listing.
func (s *server) answerCount(w http.ResponseWriter, r *http.Request, document bool, n uint64, err error) {
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set(headerCount, strconv.FormatUint(n, 10))
	switch {
	case document:
		s.answer(w, r, struct {
			Count uint64 `json:"count"`
		}{n})
	case n == 0:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusOK)
	}
}

// changes streams what changed after an index. A follower gets the header of
// the answer at once, so that it knows that it is heard.
func (s *server) changes(w http.ResponseWriter, r *http.Request) {
	q := parseQuery(r)
	since, follow := q.index("since"), q.boolean("follow", false)
	if q.err == nil && q.text("since") == "" {
		q.err = api.Errorf(api.CodeInvalid, "parameter since is missing: the log index after which the changes begin, 0 for all")
	}
	if q.err != nil {
		s.fail(w, r, q.err)
		return
	}
	if !follow || r.Method == http.MethodHead {
		stream(s, w, r, s.service.Changes(r.Context(), since, false), (*encoder).change)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-s.stop:
			cancel(errStopping)
		case <-ended:
		}
	}()
	s.follow(ctx, w, r, since)
}

var errStopping = api.Errorf(api.CodeUnavailable, "this peer is stopping; go on at another one")

// follow answers with the changes so far as stream does, and then with those
// that come.
func (s *server) follow(ctx context.Context, w http.ResponseWriter, r *http.Request, since uint64) {
	out := s.newOutput(w, r)
	out.hold = false // it has no end
	defer out.close()
	begin := func() {
		if out.lines == nil {
			out.announce()
			w.WriteHeader(http.StatusOK)
			// A client that is gone is noticed with the first line.
			_ = http.NewResponseController(w).Flush()
			out.lines = newLines(w, nil)
		}
	}
	var failed error
	for _, follow := range []bool{false, true} {
		if follow {
			begin()
		}
		for item, err := range s.service.Changes(ctx, since, follow) {
			if err == nil {
				begin()
				since = item.Index
				err = add(out, item, (*encoder).change)
			}
			if err != nil {
				failed = cmp.Or(context.Cause(ctx), err)
				break
			}
		}
		if failed != nil {
			break
		}
	}
	out.end(failed)
}

// types reads a list of pin types.
func (q *query) types(name string) []api.PinType {
	var out []api.PinType
	for _, text := range q.commas(name) {
		t, err := api.ParsePinType(text)
		q.rejectWith(name, err)
		out = append(out, t)
	}
	return out
}

// index reads a log index.
func (q *query) index(name string) uint64 {
	text := q.text(name)
	if text == "" {
		return 0
	}
	out, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		q.reject(name, "a log index, which is a whole number")
	}
	return out
}

// pinFilter reads what selects pins of the pinset.
func (q *query) pinFilter() api.PinFilter {
	f := api.PinFilter{Name: q.text("name"), NamePrefix: q.text("name-prefix"), Types: q.types("type"),
		CreatedAfter: q.moment("created-after"), CreatedBefore: q.moment("created-before")}
	if text := q.text("peer"); text != "" {
		id, err := api.DecodePeer(text)
		q.rejectWith("peer", err)
		f.Peer = id
	}
	for name, values := range q.values {
		key, isMeta := strings.CutPrefix(name, "meta-")
		switch {
		case !isMeta:
			continue
		case key == "":
			q.rejectWith(name, api.Errorf(api.CodeInvalid, "the key is missing: meta-KEY=VALUE"))
		case len(values) > 1:
			q.rejectWith(name, api.Errorf(api.CodeInvalid, "it is given %d times; a key has one value", len(values)))
		}
		if f.Meta == nil {
			f.Meta = map[string]string{}
		}
		f.Meta[key] = values[0]
	}
	return f
}

// moment reads a time: RFC 3339, or unix seconds.
func (q *query) moment(name string) time.Time {
	text := q.text(name)
	if text == "" {
		return time.Time{}
	}
	at, err := api.ParseTime(text)
	q.rejectWith(name, err)
	return at
}
