package pintracker

import (
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/encoding/protowire"

	"holdfast/api"
)

// class orders what waits. A record that waits for nothing has classNone.
type class uint8

const (
	classNone    class = iota
	classUnpin         // unpins have a worker of their own
	classFresh         // young pins that were not tried, and what a user asked to recover
	classBacklog       // old pins that were not tried: a new peer's share, a full diff
	classRetry         // failed lately
	classDead          // failed often; retried slowly for ever
	classes
)

// record is what the store knows of one CID.
type record struct {
	status    api.TrackerStatus
	since     int64 // when the status was reached, Unix nanoseconds
	mode      api.PinMode
	revision  uint64 // of the pin that was last looked at
	name      string
	class     class // where it waits
	due       int64 // not before this time, Unix nanoseconds
	attempts  uint64
	code      api.Code // of the last failure
	errText   string
	blocks    uint64 // in the local store so far
	bytes     uint64
	lastBlock int64 // Unix nanoseconds; 0: none came
	priority  bool
	reason    string // why it is not pinned any more; "": it never was, or is
	asked     int64  // the pin's Timestamp, Unix seconds; 0: of a release that kept none
	wishes    uint32 // stands for the user's options of the pin, see wishesOf
}

// The numbers of a record's fields on disk. They are only ever added.
const (
	fieldStatus protowire.Number = iota + 1
	fieldSince
	fieldDirect
	fieldRevision
	fieldName
	fieldClass
	fieldDue
	fieldAttempts
	fieldCode
	fieldErrText
	fieldBlocks
	fieldBytes
	fieldLastBlock
	fieldPriority
	fieldReason
	fieldAsked
	fieldWishes
)

// encode writes a record as a protobuf message; zero fields take no space.
func (r *record) encode(to []byte) []byte {
	number := func(field protowire.Number, v uint64) {
		if v != 0 {
			to = protowire.AppendTag(to, field, protowire.VarintType)
			to = protowire.AppendVarint(to, v)
		}
	}
	text := func(field protowire.Number, v string) {
		if v != "" {
			to = protowire.AppendTag(to, field, protowire.BytesType)
			to = protowire.AppendString(to, v)
		}
	}
	number(fieldStatus, uint64(r.status))
	number(fieldSince, uint64(r.since))
	number(fieldDirect, protowire.EncodeBool(r.mode == api.ModeDirect))
	number(fieldRevision, r.revision)
	text(fieldName, r.name)
	number(fieldClass, uint64(r.class))
	number(fieldDue, uint64(r.due))
	number(fieldAttempts, r.attempts)
	text(fieldCode, string(r.code))
	text(fieldErrText, r.errText)
	number(fieldBlocks, r.blocks)
	number(fieldBytes, r.bytes)
	number(fieldLastBlock, uint64(r.lastBlock))
	number(fieldPriority, protowire.EncodeBool(r.priority))
	text(fieldReason, r.reason)
	number(fieldAsked, uint64(r.asked))
	number(fieldWishes, uint64(r.wishes))
	return to
}

// decodeRecord reads what encode wrote. Unknown fields are skipped, so that an
// older release can read what a newer one wrote.
func decodeRecord(data []byte) (record, error) {
	r := record{mode: api.ModeRecursive}
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return record{}, fmt.Errorf("decode status record: %w", protowire.ParseError(n))
		}
		data = data[n:]
		switch kind {
		case protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(data)
			r.setNumber(field, v)
		case protowire.BytesType:
			var v []byte
			v, n = protowire.ConsumeBytes(data)
			r.setText(field, v)
		default:
			n = protowire.ConsumeFieldValue(field, kind, data)
		}
		if n < 0 {
			return record{}, fmt.Errorf("decode status record: field %d: %w", field, protowire.ParseError(n))
		}
		data = data[n:]
	}
	if r.class >= classes {
		return record{}, fmt.Errorf("decode status record: unknown queue class %d", r.class)
	}
	return r, nil
}

func (r *record) setNumber(field protowire.Number, v uint64) {
	switch field {
	case fieldStatus:
		r.status = api.TrackerStatus(v)
	case fieldSince:
		r.since = int64(v)
	case fieldDirect:
		if v != 0 {
			r.mode = api.ModeDirect
		}
	case fieldRevision:
		r.revision = v
	case fieldClass:
		r.class = class(min(v, uint64(classes)))
	case fieldDue:
		r.due = int64(v)
	case fieldAttempts:
		r.attempts = v
	case fieldBlocks:
		r.blocks = v
	case fieldBytes:
		r.bytes = v
	case fieldLastBlock:
		r.lastBlock = int64(v)
	case fieldPriority:
		r.priority = v != 0
	case fieldAsked:
		r.asked = int64(v)
	case fieldWishes:
		r.wishes = uint32(v)
	}
}

func (r *record) setText(field protowire.Number, v []byte) {
	switch field {
	case fieldName:
		r.name = string(v)
	case fieldCode:
		r.code = api.Code(v)
	case fieldErrText:
		r.errText = string(v)
	case fieldReason:
		r.reason = string(v)
	}
}

// heard notes what a pin asks for.
func (r *record) heard(pin api.Pin) {
	r.revision, r.name = pin.Revision, pin.Name
	r.asked, r.wishes = pin.Timestamp.Unix(), wishesOf(pin)
}

// repeatedBy says that somebody has pinned again what a record is about, wishing
// nothing new. Whoever does that wants to know it is all there. A pin that was
// moved, or given another name, expiry, metadata or number of replicas, has
// another revision as well, and asks nothing about its blocks. Times are whole
// seconds: twice in the same second is once.
func (r *record) repeatedBy(pin api.Pin) bool {
	switch asked := pin.Timestamp.Unix(); {
	case r.revision == pin.Revision:
		return false
	case r.asked == 0:
		return asked > time.Unix(0, r.since).Unix() // since it was pinned
	default:
		return r.asked != asked && r.wishes == wishesOf(pin)
	}
}

// wishesOf is a number that stands for what a user wishes of a pin, but for the
// content and who may have it.
func wishesOf(pin api.Pin) uint32 {
	var some [256]byte // enough for most, without an allocation
	all := protowire.AppendString(some[:0], pin.Name)
	if len(pin.Metadata) > 0 {
		for _, key := range slices.Sorted(maps.Keys(pin.Metadata)) {
			all = protowire.AppendString(protowire.AppendString(all, key), pin.Metadata[key])
		}
	}
	for _, n := range [...]int64{pin.ExpireAt.Unix(), int64(pin.ReplicationFactorMin), int64(pin.ReplicationFactorMax)} {
		all = protowire.AppendVarint(all, protowire.EncodeZigZag(n))
	}
	return crc32.ChecksumIEEE(all)
}

// trouble is what is wrong with a pin, in words; "": nothing.
func (r *record) trouble() string {
	if r.reason == "" || r.errText == "" {
		return r.reason + r.errText
	}
	return r.reason + "; " + r.errText
}

// A record can be of kinds that are counted beside its status.
const (
	kindLost     = iota // was pinned, and the node has lost some of it
	kindUnmended        // lost, and an attempt to fetch it again has failed
	kindUnusable        // can never be pinned as it is
	kinds
)

// isOf says of which kinds a record is.
func (r *record) isOf() (is [kinds]bool) {
	failed := r.status == api.StatusPinError
	is[kindLost] = r.reason != ""
	is[kindUnmended] = r.reason != "" && failed
	is[kindUnusable] = failed && r.code == api.CodeInvalid
	return is
}

// info shows a record to a user.
func (r *record) info(c api.Cid, self peer.ID) api.PinInfo {
	info := api.PinInfo{Cid: c, Name: r.name, Peer: self, PinInfoShort: api.PinInfoShort{
		Status: r.status, Timestamp: time.Unix(0, r.since).UTC(), Error: r.trouble(),
		ErrorCode: r.code, AttemptCount: int(r.attempts), PriorityPin: r.priority, Blocks: r.blocks, Bytes: r.bytes,
	}}
	if r.status.Match(api.StatusError) && r.class != classNone {
		next := time.Unix(0, r.due).UTC()
		info.NextAttempt = &next
	}
	if r.lastBlock != 0 {
		last := time.Unix(0, r.lastBlock).UTC()
		info.LastBlockAt = &last
	}
	return info
}
