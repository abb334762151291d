package pinsvc

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"holdfast/api"
)

const (
	defaultLimit = 10
	maxLimit     = 1000
)

// readPin reads a request to pin: its body, what it wishes, and its id.
func readPin(w http.ResponseWriter, r *http.Request) (body pinBody, options api.PinOptions, id string, err error) {
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return body, options, "", api.Errorf(api.CodeTooLarge, "the body is larger than %d bytes", maxBody)
	}
	if err != nil {
		return body, options, "", api.Errorf(api.CodeInvalid, "read the body: %w", err)
	}
	if err := json.Unmarshal(data, &body); err != nil {
		return body, options, "", api.Errorf(api.CodeInvalid, "the body is not a pin: %w", err)
	}
	if options, err = body.options(); err != nil {
		return body, options, "", err
	}
	id, err = requestID(r, body)
	return body, options, id, err
}

// listQuery selects pin requests.
type listQuery struct {
	cids          []api.Cid // none: all
	name          string    // "": any
	match         string    // how name is compared
	statuses      []string
	before, after time.Time // zero: no bound
	limit         int
	meta          map[string]string
}

// parseList reads the parameters of GET /pins; an error names the parameter.
func parseList(r *http.Request) (listQuery, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return listQuery{}, api.Errorf(api.CodeInvalid, "the query string does not parse: %w", err)
	}
	q := listQuery{name: values.Get("name"), limit: defaultLimit}
	if utf8.RuneCountInString(q.name) > maxName {
		return q, api.Errorf(api.CodeInvalid, "parameter name: longer than %d characters", maxName)
	}
	for _, text := range items(values["cid"]) {
		c, err := api.DecodeCid(text)
		if err != nil {
			return q, api.Errorf(api.CodeInvalid, "parameter cid: %w", err)
		}
		if !slices.Contains(q.cids, c) {
			q.cids = append(q.cids, c)
		}
	}
	if q.match, err = oneOf("match", values.Get("match"), "exact", "iexact", "partial", "ipartial"); err != nil {
		return q, err
	}
	for _, text := range items(values["status"]) {
		status, err := oneOf("status", text, queued, pinning, pinned, failed)
		if err != nil {
			return q, err
		}
		q.statuses = append(q.statuses, status)
	}
	if len(q.statuses) == 0 {
		q.statuses = []string{pinned}
	}
	if q.before, err = moment("before", values.Get("before")); err != nil {
		return q, err
	}
	if q.after, err = moment("after", values.Get("after")); err != nil {
		return q, err
	}
	if text := values.Get("limit"); text != "" {
		q.limit, err = strconv.Atoi(text)
		if err != nil || q.limit < 1 || q.limit > maxLimit {
			return q, api.Errorf(api.CodeInvalid, "parameter limit: %q is not a number from 1 to %d", text, maxLimit)
		}
	}
	if text := values.Get("meta"); text != "" {
		if err := json.Unmarshal([]byte(text), &q.meta); err != nil {
			return q, api.Errorf(api.CodeInvalid, "parameter meta: %q is not a JSON object of strings: %w", text, err)
		}
	}
	return q, nil
}

// items splits comma lists, of which there may be several; empty items count
// for nothing.
func items(values []string) []string {
	var out []string
	for _, value := range values {
		for item := range strings.SplitSeq(value, ",") {
			if item != "" {
				out = append(out, item)
			}
		}
	}
	return out
}

// oneOf checks a word; "" is the first of them.
func oneOf(name, text string, words ...string) (string, error) {
	if text == "" {
		return words[0], nil
	}
	if !slices.Contains(words, text) {
		return "", api.Errorf(api.CodeInvalid, "parameter %s: %q is not one of %s", name, text, strings.Join(words, ", "))
	}
	return text, nil
}

func moment(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, api.Errorf(api.CodeInvalid, "parameter %s: %q is not a time such as 2030-01-31T12:00:00Z", name, text)
	}
	return at, nil
}

// filter is what the pinset can look up of a query: it selects what selects
// does, and some more.
func (q listQuery) filter() api.PinFilter {
	f := api.PinFilter{Types: []api.PinType{api.TypeData}, Meta: q.meta, CreatedBefore: q.before}
	if !q.after.IsZero() {
		// What created adds to the time of a pin is less than a second.
		f.CreatedAfter = q.after.Add(-time.Second)
	}
	if q.match == "exact" {
		f.Name = q.name
	}
	return f
}

// indexed says that the pinset finds what matches without looking at more; times
// are not enough, for most pins may be of one.
func (q listQuery) indexed() bool {
	return q.match == "exact" && q.name != "" || len(q.meta) > 0
}

// wantsPinned says that pinned ones are asked for, which most are.
func (q listQuery) wantsPinned() bool { return slices.Contains(q.statuses, pinned) }

// selects says whether a pin is asked for; its status is looked at elsewhere.
func (q listQuery) selects(pin api.Pin) bool {
	at := created(pin)
	if (!q.before.IsZero() && !at.Before(q.before)) || (!q.after.IsZero() && !at.After(q.after)) {
		return false
	}
	for key, value := range q.meta {
		if has, ok := pin.Metadata[key]; !ok || has != value {
			return false
		}
	}
	if q.name == "" {
		return true
	}
	switch q.match {
	case "iexact":
		return strings.EqualFold(pin.Name, q.name)
	case "partial":
		return strings.Contains(pin.Name, q.name)
	case "ipartial":
		return strings.Contains(strings.ToLower(pin.Name), strings.ToLower(q.name))
	}
	return pin.Name == q.name
}

// anyStatus says that the statuses need not be known to select.
func (q listQuery) anyStatus() bool {
	for _, status := range []string{queued, pinning, pinned, failed} {
		if !slices.Contains(q.statuses, status) {
			return false
		}
	}
	return true
}
