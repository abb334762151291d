package pintracker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"github.com/cockroachdb/pebble/v2"

	"holdfast/api"
)

// batch gathers writes. A CID may be written once in a batch.
type batch struct {
	s     *store
	b     *pebble.Batch
	delta [statusBits]int64
	kinds [kinds]int64
	place [classes]bool
	index uint64
	key   []byte
	value []byte
}

func (s *store) batch() *batch { return &batch{s: s, b: s.db.NewBatch()} }

// put replaces a record and what the indexes say of it; old is nil when there
// was none, rec is nil when there shall be none.
//
// The keys of both indexes are set once and deleted once, in turns, which is
// what SingleDelete asks for; it keeps the head of the queues free of
// tombstones that each look would have to skip.
func (b *batch) put(cid string, old, rec *record) error {
	sameStatus := old != nil && rec != nil && old.status == rec.status
	samePlace := old != nil && rec != nil && old.class == rec.class && old.due == rec.due
	errs := make([]error, 0, 5) // one for each write below: it does not leave the stack
	if old != nil && !sameStatus {
		b.delta[bits.TrailingZeros32(uint32(old.status))]--
		errs = append(errs, b.b.SingleDelete(b.statusKey(old.status, cid), nil))
	}
	if old != nil && old.class != classNone && !samePlace {
		errs = append(errs, b.b.SingleDelete(b.queueKey(old, cid), nil))
	}
	b.count(old, -1)
	b.count(rec, 1)
	if rec == nil {
		return errors.Join(append(errs, b.b.Delete(b.recordKey(cid), nil))...)
	}
	if !sameStatus {
		b.delta[bits.TrailingZeros32(uint32(rec.status))]++
		errs = append(errs, b.b.Set(b.statusKey(rec.status, cid), nil, nil))
	}
	if rec.class != classNone && !samePlace {
		b.place[rec.class] = true
		errs = append(errs, b.b.Set(b.queueKey(rec, cid), nil, nil))
	}
	b.s.present.Add(cid)
	b.index = max(b.index, rec.revision)
	b.value = rec.encode(b.value[:0])
	return errors.Join(append(errs, b.b.Set(b.recordKey(cid), b.value, nil))...)
}

// count adds a record, if there is one, to the counters of its kinds.
func (b *batch) count(rec *record, n int64) {
	if rec == nil {
		return
	}
	for i, is := range rec.isOf() {
		if is {
			b.kinds[i] += n
		}
	}
}

func (b *batch) recordKey(cid string) []byte {
	b.key = append(append(b.key[:0], prefixRecord), cid...)
	return b.key
}

func (b *batch) statusKey(status api.TrackerStatus, cid string) []byte {
	b.key = append(append(b.key[:0], prefixStatus, byte(bits.TrailingZeros32(uint32(status)))), cid...)
	return b.key
}

func (b *batch) queueKey(rec *record, cid string) []byte {
	b.key = binary.BigEndian.AppendUint64(append(b.key[:0], prefixQueue, byte(rec.class)), uint64(rec.due))
	b.key = append(b.key, cid...)
	return b.key
}

// commit writes the batch and the counters with it.
func (b *batch) commit() error {
	s := b.s
	s.counting.Lock()
	counts, kinds, index := s.counts, s.kinds, max(s.index, b.index)
	known := s.index
	s.counting.Unlock()
	if b.b.Empty() && index == known {
		return b.b.Close()
	}
	for i, d := range b.delta {
		counts[i] += uint64(d)
	}
	for i, d := range b.kinds {
		kinds[i] += uint64(d)
	}
	b.value = b.value[:0]
	for _, n := range append(counts[:], kinds[:]...) {
		b.value = binary.BigEndian.AppendUint64(b.value, n)
	}
	err := errors.Join(b.b.Set(keyCounts, b.value, nil),
		b.b.Set(keyIndex, binary.BigEndian.AppendUint64(nil, index), nil))
	if err != nil {
		return errors.Join(err, b.b.Close())
	}
	if err := s.change(func() error { return b.b.Commit(pebble.NoSync) }); err != nil {
		return fmt.Errorf("write status records: %w", err)
	}
	for i, given := range b.place {
		s.placed[i] = s.placed[i] || given
	}
	s.counting.Lock()
	s.counts, s.kinds, s.index = counts, kinds, index
	s.counting.Unlock()
	return b.b.Close()
}
