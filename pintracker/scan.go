package pintracker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/cockroachdb/pebble/v2"

	"holdfast/api"
)

// entry is a record with its CID's bytes.
type entry struct {
	cid string
	rec record
}

// scan opens an iterator over keys from and upwards that share the prefix; it
// skips the key from itself when after is set.
func (s *store) scan(prefix, from []byte, after bool) (*pebble.Iterator, error) {
	lower := append(append([]byte(nil), prefix...), from...)
	if after {
		lower = append(lower, 0)
	}
	upper := append([]byte(nil), prefix...)
	upper[len(upper)-1]++
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, fmt.Errorf("scan status store: %w", err)
	}
	return it, nil
}

// page returns up to limit records that match the filter, in the order of
// CIDs, from the first after the given CID. Pages keep no iterator between
// them, so a slow reader holds up nothing.
func (s *store) page(filter api.TrackerStatus, after string, limit int) (out []entry, err error) {
	err = s.use(func() error {
		if s.mostly(filter) {
			out, err = s.pageRecords(filter, after, limit)
		} else {
			out, err = s.pageIndex(filter, after, limit)
		}
		return err
	})
	return out, err
}

// mostly says that a filter selects so much that reading all records is
// cheaper than looking up each one that the index names.
func (s *store) mostly(filter api.TrackerStatus) bool {
	return filter == api.StatusUndefined || s.records(filter) > s.records(api.StatusUndefined)/4*3
}

func (s *store) pageRecords(filter api.TrackerStatus, after string, limit int) (out []entry, err error) {
	it, err := s.scan([]byte{prefixRecord}, []byte(after), after != "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok && len(out) < limit; ok = it.Next() {
		rec, err := decodeRecord(it.Value())
		if err != nil {
			return nil, err
		}
		if rec.status.Match(filter) {
			out = append(out, entry{cid: string(it.Key()[1:]), rec: rec})
		}
	}
	return out, it.Error()
}

// pageIndex merges the indexes of the statuses that the filter names.
func (s *store) pageIndex(filter api.TrackerStatus, after string, limit int) (out []entry, err error) {
	var its []*pebble.Iterator
	defer func() {
		for _, it := range its {
			err = errors.Join(err, it.Close())
		}
	}()
	for rest := uint32(filter); rest != 0; rest &= rest - 1 {
		prefix := []byte{prefixStatus, byte(bits.TrailingZeros32(rest))}
		it, err := s.scan(prefix, []byte(after), after != "")
		if err != nil {
			return nil, err
		}
		its = append(its, it)
		it.First()
	}
	for len(out) < limit {
		var first *pebble.Iterator
		for _, it := range its {
			if it.Valid() && (first == nil || bytes.Compare(it.Key()[2:], first.Key()[2:]) < 0) {
				first = it
			}
		}
		if first == nil {
			break
		}
		cid := string(first.Key()[2:])
		first.Next()
		rec, known, err := s.read(cid)
		if err != nil {
			return nil, err
		}
		// The record may have moved on since the iterators were opened; and a
		// CID that is under two statuses by then is taken once.
		if known && rec.status.Match(filter) && (len(out) == 0 || out[len(out)-1].cid != cid) {
			out = append(out, entry{cid: cid, rec: rec})
		}
	}
	for _, it := range its {
		err = errors.Join(err, it.Error())
	}
	return out, err
}

// place is where a record waits.
type place struct {
	due int64
	cid string
}

// queue reads one class in order. It remembers how far it got, so that what
// was taken is not stepped over again each time. It may be used only under
// Tracker.mu: places are given out under it too, never before the present
// tick, so none can appear behind the cursor.
type queue struct {
	class  class
	cursor []byte // the last key that was read, without its prefix
	ahead  []place
	full   bool  // ahead was filled to its limit: there may be more
	next   int64 // when the first place that was not due is due; 0: there is none
}

// readAhead bounds what a queue holds in memory.
const readAhead = 512

// peek returns the first place that is due at now.
func (q *queue) peek(s *store, now int64) (place, bool, error) {
	// An idle tracker is woken often; it need not look where nothing can be.
	if news := q.full || s.placed[q.class] || q.next != 0 && q.next <= now; len(q.ahead) == 0 && news {
		if err := s.use(func() error { return q.fill(s, now) }); err != nil {
			return place{}, false, err
		}
	}
	if len(q.ahead) == 0 {
		return place{}, false, nil
	}
	return q.ahead[0], true, nil
}

// pop drops what peek returned.
func (q *queue) pop() { q.ahead = q.ahead[1:] }

func (q *queue) fill(s *store, now int64) (err error) {
	it, err := s.scan([]byte{prefixQueue, byte(q.class)}, q.cursor, q.cursor != nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	q.next, q.full, q.ahead = 0, false, q.ahead[:0]
	s.placed[q.class] = false
	for ok := it.First(); ok; ok = it.Next() {
		key := it.Key()[2:]
		due := int64(binary.BigEndian.Uint64(key))
		if due > now {
			q.next = due
			break
		}
		if q.full = len(q.ahead) == readAhead; q.full {
			break
		}
		q.ahead = append(q.ahead, place{due: due, cid: string(key[8:])})
		q.cursor = append(q.cursor[:0], key...)
	}
	return it.Error()
}
