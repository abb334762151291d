package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"holdfast/api"
	"holdfast/state/statepb"
)

const (
	// nameBytes is how much of a name its key holds. Of a longer one the key has
	// the beginning and a hash of the whole.
	nameBytes = 48
	// hashBytes are kept of a SHA-256 in a key: enough that two different texts
	// never share one, whoever chooses them.
	hashBytes = 16
)

// A name in a key ends in a zero byte, or, when it is cut off, in the two bytes
// of nameCut with the hash after them. So zero and one inside of it are written
// as two bytes. Names that begin alike have keys that begin alike.
const (
	nameEnd    = 0
	nameEscape = 1
	nameCut    = 3 // after nameEscape
)

func appendName(key []byte, name []byte) []byte {
	for _, b := range name {
		if b <= nameEscape {
			key = append(key, nameEscape, b+1)
		} else {
			key = append(key, b)
		}
	}
	return key
}

// appendNameKey begins the key of a name, all but the CID.
func appendNameKey(key []byte, name []byte) []byte {
	key = append(key, prefixByName)
	if len(name) <= nameBytes {
		return append(appendName(key, name), nameEnd)
	}
	key = append(appendName(key, name[:nameBytes]), nameEscape, nameCut)
	sum := sha256.Sum256(name)
	return append(key, sum[:hashBytes]...)
}

// namePrefixKey begins the keys of all names that begin so. Of a beginning
// longer than nameBytes, it begins those of other names too.
func namePrefixKey(name []byte) []byte {
	if len(name) <= nameBytes {
		return appendName([]byte{prefixByName}, name)
	}
	return append(appendName([]byte{prefixByName}, name[:nameBytes]), nameEscape, nameCut)
}

// appendMetaKey begins the key of a piece of metadata, all but the CID. Keys
// and values may be long and hold anything: only a hash is kept of them.
func appendMetaKey(key []byte, k, v []byte) []byte {
	key = append(key, prefixByMeta)
	size := len(key)
	key = binary.AppendUvarint(key, uint64(len(k)))
	key = append(append(key, k...), v...)
	sum := sha256.Sum256(key[size:])
	return append(key[:size], sum[:hashBytes]...)
}

// cidOf is the CID in the key of an index; false: the key is damaged.
func cidOf(key []byte) ([]byte, bool) {
	size := 0
	switch key[0] {
	case prefixByPeer, prefixWanting:
		size = 5
	case prefixByTime, prefixExpiry:
		size = 9
	case prefixByMeta:
		size = 1 + hashBytes
	case prefixByName:
		size = nameSize(key)
	}
	if size == 0 || len(key) <= size {
		return nil, false
	}
	return key[size:], true
}

// nameSize is where the CID begins in a key of the index by name; 0: nowhere.
func nameSize(key []byte) int {
	for i := 1; i < len(key); i++ {
		switch {
		case key[i] == nameEnd:
			return i + 1
		case key[i] != nameEscape:
		case i+1 < len(key) && key[i+1] == nameCut:
			return i + 2 + hashBytes
		default:
			i++ // escaped
		}
	}
	return 0
}

// indexPrefixes are those of every index of pins, with the words for it.
var indexPrefixes = []struct {
	prefix byte
	words  string
}{
	{prefixByMeta, "index by metadata"},
	{prefixByName, "index by name"},
	{prefixByTime, "index by creation time"},
	{prefixByPeer, "index by peer"},
	{prefixExpiry, "index by expiry"},
	{prefixWanting, "index of pins that want replicas"},
}

// indexKeys are the keys under which a pin stands in the indexes, without
// repeats. It is used again for the next pin.
type indexKeys struct {
	buf  []byte
	ends []int
	keys [][]byte
}

func (k *indexKeys) end(c []byte) {
	k.buf = append(k.buf, c...)
	k.ends = append(k.ends, len(k.buf))
}

// fill makes the keys of a pin; nil has none.
func (k *indexKeys) fill(c []byte, pin *statepb.Pin) {
	k.buf, k.ends, k.keys = k.buf[:0], k.ends[:0], k.keys[:0]
	if pin == nil {
		return
	}
	k.buf = appendSeconds(append(k.buf, prefixByTime), pin.GetTimestamp())
	k.end(c)
	if len(pin.Name) > 0 {
		k.buf = appendNameKey(k.buf, pin.Name)
		k.end(c)
	}
	if pin.ExpireAt != nil {
		k.buf = appendSeconds(append(k.buf, prefixExpiry), *pin.ExpireAt)
		k.end(c)
	}
	for _, number := range indexed(pin) {
		k.buf = binary.BigEndian.AppendUint32(append(k.buf, prefixByPeer), number)
		k.end(c)
	}
	if pin.ReplicationMin != api.Everywhere && len(pin.Holders) < int(pin.ReplicationMax) {
		k.buf = binary.BigEndian.AppendUint32(append(k.buf, prefixWanting), uint32(len(pin.Holders)))
		k.end(c)
	}
	for _, kv := range distinct(pin.Metadata) {
		k.buf = appendMetaKey(k.buf, kv.Key, kv.Value)
		k.end(c)
	}
	start := 0
	for _, end := range k.ends {
		k.keys = append(k.keys, k.buf[start:end])
		start = end
	}
}

// distinct leaves out all but the last of several values for one key. Only a
// faulty peer sends such a thing; commands of ours are sorted by key.
func distinct(metadata []*statepb.KeyValue) []*statepb.KeyValue {
	byKey := func(a, b *statepb.KeyValue) int { return bytes.Compare(a.Key, b.Key) }
	for i := 1; i < len(metadata); i++ {
		if byKey(metadata[i-1], metadata[i]) < 0 {
			continue
		}
		sorted := slices.Clone(metadata)
		slices.Reverse(sorted) // the last comes first
		slices.SortStableFunc(sorted, byKey)
		return slices.CompactFunc(sorted, func(a, b *statepb.KeyValue) bool { return byKey(a, b) == 0 })
	}
	return metadata
}

// replaceBy deletes the keys that next does not have, and sets those that only
// next has.
func (k *indexKeys) replaceBy(next *indexKeys, batch *pebble.Batch) error {
	if len(k.keys) > 0 && len(next.keys) > 0 {
		slices.SortFunc(k.keys, bytes.Compare)
		slices.SortFunc(next.keys, bytes.Compare)
	}
	old, now := k.keys, next.keys
	for len(old) > 0 || len(now) > 0 {
		order := 0
		switch {
		case len(old) == 0:
			order = 1
		case len(now) == 0:
			order = -1
		default:
			order = bytes.Compare(old[0], now[0])
		}
		var err error
		if order < 0 {
			err = batch.Delete(old[0], nil)
		} else if order > 0 {
			err = batch.Set(now[0], nil, nil)
		}
		if err != nil {
			return err
		}
		if order <= 0 {
			old = old[1:]
		}
		if order >= 0 {
			now = now[1:]
		}
	}
	return nil
}
