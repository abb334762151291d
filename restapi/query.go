package restapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/api"

	"github.com/libp2p/go-libp2p/core/peer"
)

// query is a parsed query string. Its methods read one parameter each; an
// absent or empty one is the default. The first parameter that does not parse
// is kept as err, so that a caller asks once, after the last.
type query struct {
	values url.Values
	err    error
}

func parseQuery(r *http.Request) *query {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return &query{err: api.Errorf(api.CodeInvalid, "the query string does not parse: %w", err)}
	}
	return &query{values: values}
}

func (q *query) reject(name, want string) {
	if q.err == nil {
		q.err = api.Errorf(api.CodeInvalid, "parameter %s invalid: %q is not %s", name, q.values.Get(name), want)
	}
}

// rejectWith keeps an error of a parser as the one of a parameter.
func (q *query) rejectWith(name string, err error) {
	if q.err == nil && err != nil {
		q.err = api.Errorf(api.CodeInvalid, "parameter %s invalid: %w", name, err)
	}
}

func (q *query) text(name string) string { return q.values.Get(name) }

func (q *query) boolean(name string, unset bool) bool {
	text := q.text(name)
	if text == "" {
		return unset
	}
	out, err := strconv.ParseBool(text)
	if err != nil {
		q.reject(name, "true or false")
	}
	return out
}

func (q *query) integer(name string, unset int) int {
	text := q.text(name)
	if text == "" {
		return unset
	}
	out, err := strconv.Atoi(text)
	if err != nil {
		q.reject(name, "a whole number")
	}
	return out
}

func (q *query) count(name string) int {
	out := q.integer(name, 0)
	if out < 0 {
		q.reject(name, "a number from 0")
	}
	return out
}

func (q *query) bytes(name string) uint64 {
	text := q.text(name)
	if text == "" {
		return 0
	}
	out, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		q.reject(name, "a number of bytes")
	}
	return out
}

func (q *query) cid(name string) api.Cid {
	text := q.text(name)
	if text == "" {
		return api.Cid{}
	}
	out, err := api.DecodeCid(text)
	q.rejectWith(name, err)
	return out
}

func (q *query) cids(name string) []api.Cid {
	var out []api.Cid
	for _, text := range q.commas(name) {
		c, err := api.DecodeCid(text)
		q.rejectWith(name, err)
		out = append(out, c)
	}
	return out
}

func (q *query) peers(name string) []peer.ID {
	var out []peer.ID
	for _, text := range q.commas(name) {
		id, err := api.DecodePeer(text)
		q.rejectWith(name, err)
		out = append(out, id)
	}
	return out
}

// commas splits a list; an absent or empty parameter has no items.
func (q *query) commas(name string) []string {
	text := q.text(name)
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// pinOptions reads what every endpoint that pins accepts. now is for
// expire-in.
func (q *query) pinOptions(now time.Time) api.PinOptions {
	var o api.PinOptions
	o.Name = q.text("name")
	mode, err := api.ParsePinMode(q.text("mode"))
	q.rejectWith("mode", err)
	o.Mode = mode
	o.ReplicationFactorMin = q.integer("replication-min", 0)
	o.ReplicationFactorMax = q.integer("replication-max", 0)
	if q.text("replication") != "" {
		o.ReplicationFactorMin = q.integer("replication", 0)
		o.ReplicationFactorMax = o.ReplicationFactorMin
	}
	o.ShardSize = q.bytes("shard-size")
	o.UserAllocations = q.peers("user-allocations")
	o.ExpireAt = q.expiry(now)
	o.PinUpdate = q.cid("pin-update")
	origins, err := api.ParseOrigins(q.commas("origins"))
	q.rejectWith("origins", err)
	o.Origins = origins
	for name, values := range q.values {
		if key, ok := strings.CutPrefix(name, "meta-"); ok && key != "" {
			if o.Metadata == nil {
				o.Metadata = map[string]string{}
			}
			o.Metadata[key] = values[0]
		}
	}
	if q.err == nil {
		q.err = o.Validate()
	}
	return o
}

// expiry reads expire-at, which wins, and expire-in. Both must be in the
// future: a pin that ends at once is a mistake.
func (q *query) expiry(now time.Time) time.Time {
	var out time.Time
	if text := q.text("expire-in"); text != "" {
		in, err := time.ParseDuration(text)
		if err != nil || in < time.Second {
			q.reject("expire-in", "a duration of a second or more, such as 72h")
		}
		out = now.Add(in)
	}
	if text := q.text("expire-at"); text != "" {
		at, err := time.Parse(time.RFC3339, text)
		switch {
		case err != nil:
			q.reject("expire-at", "a time such as 2030-01-31T12:00:00Z")
		case at.IsZero():
			return time.Time{}
		case !at.After(now):
			q.reject("expire-at", "in the future")
		}
		out = at
	}
	return out
}
