package restapi

import (
	"encoding/base32"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"holdfast/api"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// encoder writes the objects of long lists, byte for byte as encoding/json
// does but several times as fast: lists have millions of pins and a handful of
// peers, whose texts are made once.
type encoder struct {
	buf   []byte
	err   error
	peers map[peer.ID]string
	addrs map[string]encodedAddrs // of IPFS nodes, by cluster peer
	keys  []string                // scratch
}

type encodedAddrs struct {
	addrs []multiaddr.Multiaddr
	json  string
}

func newEncoder() *encoder {
	return &encoder{peers: map[peer.ID]string{}, addrs: map[string]encodedAddrs{}}
}

// value writes anything through encoding/json.
func (e *encoder) value(v any) {
	data, err := json.Marshal(v)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.buf = append(e.buf, data...)
}

func (e *encoder) raw(text string) { e.buf = append(e.buf, text...) }

func (e *encoder) integer(n int) { e.buf = strconv.AppendInt(e.buf, int64(n), 10) }

func (e *encoder) unsigned(n uint64) { e.buf = strconv.AppendUint(e.buf, n, 10) }

func (e *encoder) boolean(b bool) { e.buf = strconv.AppendBool(e.buf, b) }

// text writes a string; one that needs escapes takes the long way.
func (e *encoder) text(s string) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			e.value(s)
			return
		}
	}
	e.quoted(s)
}

// quoted writes a string that is known to need no escapes.
func (e *encoder) quoted(s string) {
	e.buf = append(e.buf, '"')
	e.buf = append(e.buf, s...)
	e.buf = append(e.buf, '"')
}

func (e *encoder) time(t time.Time) {
	if y := t.Year(); y < 0 || y > 9999 || t.Location() != time.UTC {
		e.value(t)
		return
	}
	e.buf = append(e.buf, '"')
	e.buf = t.AppendFormat(e.buf, time.RFC3339Nano)
	e.buf = append(e.buf, '"')
}

func (e *encoder) cid(c api.Cid) {
	if !c.Defined() {
		e.raw("null")
		return
	}
	if c.Version() == 0 {
		e.quoted(c.Cid.String())
		return
	}
	// What String says, in a third of the time.
	e.buf = append(e.buf, '"', 'b') // multibase's letter for base32
	e.buf = base32Lower.AppendEncode(e.buf, c.Bytes())
	e.buf = append(e.buf, '"')
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (e *encoder) peer(id peer.ID) {
	text, ok := e.peers[id]
	if !ok {
		text = id.String()
		e.peers[id] = text
	}
	e.quoted(text)
}

func (e *encoder) peerList(ids []peer.ID) {
	e.buf = append(e.buf, '[')
	for i, id := range ids {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		e.peer(id)
	}
	e.buf = append(e.buf, ']')
}

func (e *encoder) metadata(m map[string]string) {
	if m == nil {
		e.raw("null")
		return
	}
	e.buf = append(e.buf, '{')
	e.keys = e.keys[:0]
	for key := range m {
		e.keys = append(e.keys, key)
	}
	slices.Sort(e.keys)
	for i, key := range e.keys {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		e.text(key)
		e.buf = append(e.buf, ':')
		e.text(m[key])
	}
	e.buf = append(e.buf, '}')
}

// pin writes pinJSON(p).
func (e *encoder) pin(p api.Pin) {
	e.raw(`{"replication_factor_min":`)
	e.integer(p.ReplicationFactorMin)
	e.raw(`,"replication_factor_max":`)
	e.integer(p.ReplicationFactorMax)
	e.raw(`,"name":`)
	e.text(p.Name)
	e.raw(`,"mode":`)
	e.text(string(p.Mode))
	e.raw(`,"shard_size":`)
	e.unsigned(p.ShardSize)
	e.raw(`,"user_allocations":`)
	if p.UserAllocations == nil {
		e.raw("null")
	} else {
		e.peerList(p.UserAllocations)
	}
	e.raw(`,"expire_at":`)
	e.time(p.ExpireAt)
	e.raw(`,"metadata":`)
	e.metadata(p.Metadata)
	e.raw(`,"pin_update":`)
	e.cid(p.PinUpdate)
	e.raw(`,"origins":`)
	if p.Origins == nil {
		e.raw("null")
	} else {
		e.value(p.Origins)
	}
	e.raw(`,"cid":`)
	e.cid(p.Cid)
	e.raw(`,"type":`)
	e.text(string(p.Type))
	e.raw(`,"allocations":`)
	e.peerList(p.Allocations)
	e.raw(`,"max_depth":`)
	e.integer(p.Mode.MaxDepth())
	e.raw(`,"reference":`)
	if p.Reference == nil {
		e.raw("null")
	} else {
		e.cid(*p.Reference)
	}
	e.raw(`,"timestamp":`)
	e.time(p.Timestamp)
	if p.Revision != 0 {
		e.raw(`,"revision":`)
		e.unsigned(p.Revision)
	}
	e.buf = append(e.buf, '}')
}

// change writes a change of the pinset.
func (e *encoder) change(c api.PinChange) {
	e.raw(`{"index":`)
	e.unsigned(c.Index)
	e.raw(`,"cid":`)
	e.cid(c.Cid)
	e.raw(`,"pin":`)
	if c.Pin == nil {
		e.raw("null")
	} else {
		e.pin(*c.Pin)
	}
	if c.Removed {
		e.raw(`,"removed":true`)
	}
	e.buf = append(e.buf, '}')
}

// status writes statusJSON(g).
func (e *encoder) status(g api.GlobalPinInfo) {
	e.raw(`{"cid":`)
	e.cid(g.Cid)
	e.raw(`,"name":`)
	e.text(g.Name)
	e.raw(`,"allocations":`)
	e.peerList(g.Allocations)
	e.raw(`,"origins":`)
	if len(g.Origins) == 0 {
		e.raw("[]")
	} else {
		e.value(g.Origins)
	}
	e.raw(`,"created":`)
	e.time(g.Created)
	e.raw(`,"metadata":`)
	e.metadata(g.Metadata)
	e.raw(`,"peer_map":{`)
	for i, id := range slices.Sorted(maps.Keys(g.PeerMap)) {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		e.text(id)
		e.buf = append(e.buf, ':')
		e.short(id, g.PeerMap[id])
	}
	e.raw("}}")
}

func (e *encoder) short(id string, p api.PinInfoShort) {
	e.raw(`{"peername":`)
	e.text(p.PeerName)
	if p.IPFS != "" {
		e.raw(`,"ipfs_peer_id":`)
		e.peer(p.IPFS)
	}
	if len(p.IPFSAddresses) > 0 {
		e.raw(`,"ipfs_peer_addresses":`)
		e.addresses(id, p.IPFSAddresses)
	}
	e.raw(`,"status":`)
	e.text(p.Status.String())
	e.raw(`,"timestamp":`)
	e.time(p.Timestamp)
	e.raw(`,"error":`)
	e.text(p.Error)
	e.raw(`,"attempt_count":`)
	e.integer(p.AttemptCount)
	e.raw(`,"priority_pin":`)
	e.boolean(p.PriorityPin)
	if p.ErrorCode != "" {
		e.raw(`,"error_code":`)
		e.text(string(p.ErrorCode))
	}
	if p.Blocks != 0 {
		e.raw(`,"blocks":`)
		e.unsigned(p.Blocks)
	}
	if p.Bytes != 0 {
		e.raw(`,"bytes":`)
		e.unsigned(p.Bytes)
	}
	if p.NextAttempt != nil {
		e.raw(`,"next_attempt":`)
		e.time(*p.NextAttempt)
	}
	if p.LastBlockAt != nil {
		e.raw(`,"last_block_at":`)
		e.time(*p.LastBlockAt)
	}
	e.buf = append(e.buf, '}')
}

// addresses are those of one peer's IPFS node, nearly always the same.
func (e *encoder) addresses(id string, addrs []multiaddr.Multiaddr) {
	known, ok := e.addrs[id]
	if !ok || !slices.EqualFunc(known.addrs, addrs, multiaddr.Multiaddr.Equal) {
		start := len(e.buf)
		e.value(addrs)
		e.addrs[id] = encodedAddrs{addrs: addrs, json: string(e.buf[start:])}
		return
	}
	e.raw(known.json)
}
