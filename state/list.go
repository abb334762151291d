package state

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/ipfs/go-cid"

	"holdfast/api"
	"holdfast/state/statepb"
)

// Pins lists the pins that a filter selects, in the order of their CIDs'
// bytes, as they were when the listing began. A later listing with After set
// to the last CID of an earlier one goes on where that ended. After an error
// the listing ends.
//
// Every pin, and pins by Name, Meta, Peer or several of them together, cost
// what the listing returns, times the number of the conditions where few pins
// meet all of them. NamePrefix, CreatedAfter and CreatedBefore are looked up as
// well, and sorted, as long as they select no more than narrowKeys (then each
// page costs as much as the whole); if they select more, pins are looked at one
// after the other, as they are for Types: that costs as many pins as lie
// between those that are returned. Memory is bounded in any case.
func (p *Pinset) Pins(filter api.PinFilter) iter.Seq2[api.Pin, error] {
	return p.Select(context.Background(), filter)
}

// Select is Pins for a reader who may go away: it ends with ctx, also where it
// looks at many pins and none is selected.
func (p *Pinset) Select(ctx context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	return func(yield func(api.Pin, error) bool) {
		left, more := filter.Limit, true
		err := p.selected(ctx, filter, func(s *selection) error {
			return s.each(func(c cid.Cid, stored *statepb.Pin) (bool, error) {
				pin, err := pinFromProto(c, stored, *s.g.peers.Load())
				if err != nil {
					return false, err
				}
				left--
				more = yield(pin, nil)
				return more && left != 0, nil
			})
		})
		if err != nil && more {
			yield(api.Pin{}, err)
		}
	}
}

// Count is the number of pins that a filter selects; After and Limit are not
// looked at. All pins, those of some types and those of a peer are counted
// already. One range (NamePrefix, or CreatedAfter with CreatedBefore), or any
// of Name, Meta and Peer, are counted in their indexes. Everything else costs
// what Pins does.
func (p *Pinset) Count(ctx context.Context, filter api.PinFilter) (uint64, error) {
	filter.After, filter.Limit = api.Cid{}, 0
	count := uint64(0)
	err := p.selected(ctx, filter, func(s *selection) (err error) {
		count, err = s.count()
		return err
	})
	return count, err
}

// selected calls fn with what a filter selects at this moment.
func (p *Pinset) selected(ctx context.Context, filter api.PinFilter, fn func(*selection) error) error {
	g, err := p.acquire()
	if err != nil {
		return err
	}
	defer p.release(g)
	snapshot := g.db.NewSnapshot()
	defer snapshot.Close()
	meta, err := loadMeta(snapshot)
	if err != nil {
		return err
	}
	s := &selection{g: g, r: snapshot, meta: meta, filter: filter, keys: p.narrow, stop: func() error {
		if p.closing.Load() {
			return errClosed()
		}
		return ctx.Err()
	}}
	s.plan()
	return fn(s)
}

// Newest lists the pins that a filter selects, the latest Timestamp first; After
// is not looked at. It looks at every pin between those that it returns, so it
// is meant for conditions that most pins meet, and for times.
func (p *Pinset) Newest(ctx context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	return func(yield func(api.Pin, error) bool) {
		left, more := filter.Limit, true
		err := p.selected(ctx, filter, func(s *selection) error {
			walk, err := s.openRange(timeRange(filter.CreatedAfter, filter.CreatedBefore), cid.Undef)
			if err != nil {
				return err
			}
			walk.back = true
			err = s.visit(walk, func(c cid.Cid, stored *statepb.Pin) (bool, error) {
				pin, err := pinFromProto(c, stored, *s.g.peers.Load())
				if err != nil {
					return false, err
				}
				left--
				more = yield(pin, nil)
				return more && left != 0, nil
			})
			return errors.Join(err, walk.close())
		})
		if err != nil && more {
			yield(api.Pin{}, err)
		}
	}
}

// WantingReplicas lists the pins that have fewer holders than they should have
// at most, and fewer than the given number: those that an allocation among so
// many peers could give more. Those with the fewest holders come first. It
// costs what it returns.
func (p *Pinset) WantingReplicas(peers int) iter.Seq2[api.Pin, error] {
	return func(yield func(api.Pin, error) bool) {
		if peers < 1 {
			return
		}
		more := true
		err := p.selected(context.Background(), api.PinFilter{}, func(s *selection) error {
			end := peerKey(prefixWanting, uint32(min(peers, maxWanting)))
			return s.eachOf(newRange([]byte{prefixWanting}, end), func(c cid.Cid, stored *statepb.Pin) (bool, error) {
				pin, err := pinFromProto(c, stored, *s.g.peers.Load())
				if err != nil {
					return false, err
				}
				more = yield(pin, nil)
				return more, nil
			})
		})
		if err != nil && more {
			yield(api.Pin{}, err)
		}
	}
}

// maxWanting is more holders than any pin has.
const maxWanting = 1 << 30

// eachOf calls fn with the pins that the keys of an index name, in their
// order, until it returns false.
func (s *selection) eachOf(keys keyRange, fn func(cid.Cid, *statepb.Pin) (bool, error)) error {
	walk, err := s.openRange(keys, cid.Undef)
	if err != nil {
		return err
	}
	err = s.visit(walk, fn)
	return errors.Join(err, walk.close())
}

// visit reads the pins of a walk of CIDs by seeking in one iterator, which is
// nearly as cheap as a scan where they lie close together.
func (s *selection) visit(walk walk, fn func(cid.Cid, *statepb.Pin) (bool, error)) error {
	pins, err := newCursor(s.r, []byte{prefixPin}, cid.Undef)
	if err != nil {
		return err
	}
	for {
		data, ok := walk.next()
		if !ok {
			return pins.close()
		}
		pins.seek(data)
		if !pins.valid() || string(pins.cid()) != string(data) {
			return errors.Join(fmt.Errorf("an index names a pin that does not exist: %x", data), pins.close())
		}
		more, err := s.offer(data, pins, fn)
		if err != nil || !more {
			return errors.Join(err, pins.close())
		}
	}
}

// offer decodes the pin that a cursor stands at, and calls fn if it meets the
// conditions.
func (s *selection) offer(data []byte, pins *cursor, fn func(cid.Cid, *statepb.Pin) (bool, error)) (bool, error) {
	if err := s.stop(); err != nil {
		return false, err
	}
	c, err := cid.Cast(data)
	if err != nil {
		return false, fmt.Errorf("list pins: key %x: %w", data, err)
	}
	value, err := pins.it.ValueAndErr()
	if err != nil {
		return false, fmt.Errorf("list pins: %w", err)
	}
	stored := &statepb.Pin{}
	if err := stored.UnmarshalVTUnsafe(value); err != nil {
		return false, fmt.Errorf("decode pin %s: %w", c, err)
	}
	if !s.matches(stored) {
		return true, nil
	}
	return fn(c, stored)
}
