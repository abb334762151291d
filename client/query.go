package client

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/api"
)

// optionsQuery writes pin options as the parameters that the API reads;
// defaults stay out.
func optionsQuery(o api.PinOptions) url.Values {
	q := url.Values{}
	setText(q, "name", o.Name)
	setText(q, "mode", string(o.Mode))
	setInt(q, "replication-min", o.ReplicationFactorMin)
	setInt(q, "replication-max", o.ReplicationFactorMax)
	if o.ShardSize > 0 {
		q.Set("shard-size", strconv.FormatUint(o.ShardSize, 10))
	}
	setText(q, "user-allocations", joined(o.UserAllocations))
	if !o.ExpireAt.IsZero() {
		q.Set("expire-at", o.ExpireAt.Format(time.RFC3339Nano))
	}
	setText(q, "pin-update", o.PinUpdate.String())
	setText(q, "origins", joined(o.Origins))
	for key, value := range o.Metadata {
		q.Set("meta-"+key, value)
	}
	return q
}

func addQuery(p api.AddParams) url.Values {
	q := optionsQuery(p.PinOptions)
	setText(q, "format", p.Format)
	setText(q, "layout", p.Layout)
	setText(q, "chunker", p.Chunker)
	setText(q, "hash", p.HashFun)
	q.Set("cid-version", strconv.Itoa(p.CidVersion))
	q.Set("raw-leaves", strconv.FormatBool(p.RawLeaves))
	q.Set("stream-channels", strconv.FormatBool(p.StreamChannels))
	setBool(q, "wrap-with-directory", p.Wrap)
	setBool(q, "local", p.Local)
	setBool(q, "progress", p.Progress)
	setBool(q, "no-pin", p.NoPin)
	setBool(q, "only-hash", p.OnlyHash)
	return q
}

func localQuery(local bool) url.Values {
	q := url.Values{}
	setBool(q, "local", local)
	return q
}

// filterQuery writes what selects pins, but for After and Limit; the parameter
// for the types has another name where the incumbent knows it.
func filterQuery(f api.PinFilter, typesName string) url.Values {
	q := url.Values{}
	var types []string
	for _, t := range f.Types {
		types = append(types, string(t))
	}
	setText(q, typesName, strings.Join(types, ","))
	if f.Peer != "" {
		q.Set("peer", f.Peer.String())
	}
	setText(q, "name", f.Name)
	setText(q, "name-prefix", f.NamePrefix)
	for key, value := range f.Meta {
		q.Set("meta-"+key, value)
	}
	setTime(q, "created-after", f.CreatedAfter)
	setTime(q, "created-before", f.CreatedBefore)
	return q
}

// statusQuery writes what selects statuses, but for After and Limit.
func statusQuery(query api.StatusQuery) url.Values {
	q := filterQuery(query.Pins, "type")
	setBool(q, "local", query.Local)
	if query.Filter != api.StatusUndefined {
		q.Set("filter", query.Filter.String())
	}
	setText(q, "cids", joined(query.Cids))
	return q
}

func setTime(q url.Values, name string, at time.Time) {
	if !at.IsZero() {
		q.Set(name, at.Format(time.RFC3339Nano))
	}
}

func setText(q url.Values, name, value string) {
	if value != "" {
		q.Set(name, value)
	}
}

func setInt(q url.Values, name string, value int) {
	if value != 0 {
		q.Set(name, strconv.Itoa(value))
	}
}

func setBool(q url.Values, name string, value bool) {
	if value {
		q.Set(name, "true")
	}
}

func joined[T interface{ String() string }](items []T) string {
	var out []string
	for _, item := range items {
		out = append(out, item.String())
	}
	return strings.Join(out, ",")
}
