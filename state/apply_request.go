package state

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"holdfast/api"
	"holdfast/state/statepb"
)

// request is the id of a request as the log has it.
type request [requestIDBytes]byte

// seenAt is where the outcome of a request stands: at a position among the
// outcomes of a log index.
type seenAt struct {
	index    uint64
	position int
}

// repeat looks a request up in the memory of requests, and returns the result
// that it had when it was seen before (INV-ONCE). Conflicts are not remembered:
// who gets one decides again under the same id.
func (t *tx) repeat(id []byte, c cid.Cid, unpin bool) (Result, bool, error) {
	if len(id) == 0 {
		return Result{}, false, nil
	}
	if len(id) != requestIDBytes {
		return Result{}, false, fmt.Errorf("request id has %d bytes, want %d", len(id), requestIDBytes)
	}
	first, index, err := t.outcome(request(id))
	if first == nil || err != nil {
		return Result{}, false, err
	}
	if string(first.Cid) != c.KeyString() || first.Unpin != unpin {
		return refuse(api.CodeInvalid, "the request id was used before, for another request; use a new one"), true, nil
	}
	result := notPinned(c)
	if !first.NotFound {
		pin, err := decodeStored(first.Cid, first.Pin)
		if err != nil {
			return Result{}, false, err
		}
		result = t.success(c, pin)
	}
	result.Index, result.Repeat = index, true
	return result, true, nil
}

// outcome returns what became of a request and when, or nil.
func (t *tx) outcome(id request) (*statepb.Outcome, uint64, error) {
	at, ok := t.g.requests[id]
	if !ok {
		return nil, 0, nil
	}
	if at.index == t.index {
		return t.outcomes.Outcomes[at.position], t.index, nil
	}
	outcomes, err := t.outcomesOf(at.index)
	if err != nil {
		return nil, 0, err
	}
	if at.position >= len(outcomes.Outcomes) {
		return nil, 0, fmt.Errorf("outcome %d of %d is missing", at.position, at.index)
	}
	return outcomes.Outcomes[at.position], at.index, nil
}

// earlier holds the outcomes of an earlier entry.
type earlier struct {
	index    uint64 // 0: none
	outcomes *statepb.Outcomes
}

// outcomesOf reads the outcomes of an entry. The last ones are kept: those of a
// bulk write can take megabytes, and it is repeated as a whole.
func (t *tx) outcomesOf(index uint64) (*statepb.Outcomes, error) {
	if t.earlier.index == index {
		return t.earlier.outcomes, nil
	}
	value, _, err := get(t.g.db, indexKey(prefixOutcomes, index))
	if err != nil {
		return nil, err
	}
	outcomes := &statepb.Outcomes{}
	if err := outcomes.UnmarshalVTUnsafe(value); err != nil {
		return nil, fmt.Errorf("decode outcomes of %d: %w", index, err)
	}
	t.earlier = earlier{index, outcomes}
	return outcomes, nil
}

// remember keeps the outcome of a request, if it has an id. The generation knows
// it at once: should this tx fail, nothing further is applied to it.
//
// pin is as it was stored, or as it was when it was removed; nil: not found.
func (t *tx) remember(id []byte, s *subject, pin []byte, unpin bool) {
	if len(id) == 0 {
		return
	}
	n := len(t.kept)
	t.g.requests[request(id)] = seenAt{index: t.index, position: n}
	t.requestIDs = append(t.requestIDs, id...)
	t.kept = t.kept[:n+1]
	o := &t.kept[n]
	o.Cid, o.Pin, o.Unpin, o.NotFound = s.bytes(), pin, unpin, pin == nil
	t.outcomes.Outcomes = append(t.outcomes.Outcomes, o)
}

// writeRequests writes what was remembered, under one key for all ids and one
// for all outcomes, and forgets the oldest entries when there are too many.
func (t *tx) writeRequests() error {
	if len(t.outcomes.Outcomes) == 0 {
		return nil
	}
	if err := t.batch.Set(indexKey(prefixRequests, t.index), t.requestIDs, nil); err != nil {
		return err
	}
	if err := t.batch.Set(indexKey(prefixOutcomes, t.index), marshal(&t.outcomes), nil); err != nil {
		return err
	}
	t.meta.Requests += uint64(len(t.outcomes.Outcomes))
	if t.meta.Requests <= t.limits.requests+t.limits.requests/trimSlack {
		return nil
	}
	err := t.trim(prefixRequests, t.meta.RequestFloor, func(index uint64, value []byte) (bool, error) {
		count := uint64(len(value) / requestIDBytes)
		if t.meta.Requests-count < t.limits.requests {
			return false, nil // the last so many are kept, whatever came with them
		}
		for id := range slices.Chunk(value, requestIDBytes) {
			delete(t.g.requests, request(id))
		}
		t.meta.Requests -= count
		t.meta.RequestFloor = index
		return true, t.batch.Delete(indexKey(prefixOutcomes, index), nil)
	})
	return err
}

// loadRequests reads the ids that are remembered, at most some more than
// the limit, as they are looked up with every command.
func loadRequests(r pebble.Reader) (map[request]seenAt, error) {
	out := map[request]seenAt{}
	err := scanFixed(r, prefixRequests, 8, func(key, value []byte) error {
		index := binary.BigEndian.Uint64(key)
		if len(value)%requestIDBytes != 0 {
			return fmt.Errorf("request ids of %d take %d bytes", index, len(value))
		}
		position := 0
		for id := range slices.Chunk(value, requestIDBytes) {
			out[request(id)] = seenAt{index: index, position: position}
			position++
		}
		return nil
	})
	return out, err
}
