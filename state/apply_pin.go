package state

import (
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/state/statepb"
)

// pin stores a pin. Nothing of the options is checked against limits here:
// limits may change between versions, and then peers would disagree.
func (t *tx) pin(op *statepb.PinOp, s *subject) (Result, error) {
	if s.invalid != nil {
		return refuse(api.CodeInvalid, "cannot pin what has no valid CID: %w", s.invalid), nil
	}
	c := s.c
	if first, repeated, err := t.repeat(op.Request, c, false); repeated || err != nil {
		return first, err
	}
	old, err := t.stored(s)
	if err != nil {
		return Result{}, err
	}
	if old.GetRevision() != op.Expect {
		return t.conflict(c, op.Expect, old.GetRevision()), nil
	}
	if err := t.checkForms(op.Pin); err != nil {
		return refuse(api.CodeInvalid, "pin %s: %w", c, err), nil
	}
	next, err := t.storedForm(op)
	if err != nil {
		return Result{}, err
	}
	if len(next.Holders) == 0 && next.ReplicationMin != api.Everywhere {
		return refuse(api.CodeInvalid, "pin %s is allocated to no peer", c), nil
	}
	if err := checkKinds(next); err != nil {
		return Result{}, fmt.Errorf("pin %s: %w", c, err)
	}
	if err := t.replace(s, old, next); err != nil {
		return Result{}, err
	}
	value := marshal(next)
	t.remember(op.Request, s, value, false)
	return t.success(c, next), t.set(s, value)
}

// unpin removes a pin.
func (t *tx) unpin(op *statepb.UnpinOp, s *subject) (Result, error) {
	if s.invalid != nil {
		return refuse(api.CodeInvalid, "cannot unpin what has no valid CID: %w", s.invalid), nil
	}
	c := s.c
	if first, repeated, err := t.repeat(op.Request, c, true); repeated || err != nil {
		return first, err
	}
	old, err := t.stored(s)
	if err != nil {
		return Result{}, err
	}
	if old == nil {
		t.remember(op.Request, s, nil, true)
		return notPinned(c), nil
	}
	if old.Revision != op.Expect {
		return t.conflict(c, op.Expect, old.Revision), nil
	}
	if err := t.replace(s, old, nil); err != nil {
		return Result{}, err
	}
	t.remember(op.Request, s, s.value, true)
	return t.success(c, old), t.drop(s)
}

func notPinned(c cid.Cid) Result {
	return refuse(api.CodeNotFound, "%s is not pinned", c)
}

func (t *tx) conflict(c cid.Cid, expect, got uint64) Result {
	return refuse(api.CodeConflict, "pin %s was changed meanwhile: it is at revision %d, the decision was made on %d", c, got, expect)
}

// success is the result of a command that stored or removed a pin.
func (t *tx) success(c cid.Cid, pin *statepb.Pin) Result {
	return Result{cid: c, pin: pin, peers: t.peers}
}

// decodeStored reads a pin; it shares the memory of value.
func decodeStored(c, value []byte) (*statepb.Pin, error) {
	pin := &statepb.Pin{}
	if err := pin.UnmarshalVTUnsafe(value); err != nil {
		return nil, fmt.Errorf("decode pin %x: %w", c, err)
	}
	return pin, nil
}

// checkKinds fails for what a newer program may have meant.
func checkKinds(pin *statepb.Pin) error {
	if _, known := typeNames[pin.Type]; !known {
		return fmt.Errorf("unknown type %d", pin.Type)
	}
	if pin.Mode != statepb.Mode_RECURSIVE && pin.Mode != statepb.Mode_DIRECT {
		return fmt.Errorf("unknown mode %d", pin.Mode)
	}
	return nil
}

// checkForms checks what must be readable later. It refuses, because a fatal
// error would stop every peer for a fault of the one that proposed. These two
// forms are fixed; addresses are not looked at, because newer versions know
// more kinds of them.
func (t *tx) checkForms(pin *statepb.Pin) error {
	for _, data := range pin.Allocations {
		if t.g.numbers[peer.ID(data)] != 0 {
			continue // it was checked before it got its number
		}
		if _, err := peer.IDFromBytes(data); err != nil {
			return fmt.Errorf("allocation: %w", err)
		}
	}
	if len(pin.PinUpdate) > 0 {
		if _, err := cid.Cast(pin.PinUpdate); err != nil {
			return fmt.Errorf("updated from: %w", err)
		}
	}
	return nil
}

// storedForm turns the pin of a command into the value: the CID is the key,
// the peers have numbers.
func (t *tx) storedForm(op *statepb.PinOp) (*statepb.Pin, error) {
	pin := op.Pin
	pin.Holders = nil
	if pin.ReplicationMin != api.Everywhere {
		pin.Holders = make([]uint32, 0, len(pin.Allocations))
		for _, data := range pin.Allocations {
			number, err := t.number(data)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(pin.Holders, number) {
				pin.Holders = append(pin.Holders, number)
			}
		}
	}
	pin.Cid, pin.Allocations, pin.Revision = nil, nil, t.index
	if pin.Timestamp == nil {
		pin.Timestamp = &op.At
	}
	return pin, nil
}

// replace brings indexes and counters from the old value of a pin to the next;
// nil stands for none.
func (t *tx) replace(s *subject, old, next *statepb.Pin) error {
	t.changed(s)
	for _, number := range indexed(old) {
		t.countPin(number, -1)
	}
	for _, number := range indexed(next) {
		t.countPin(number, 1)
	}
	if old != nil {
		t.meta.Pins--
		t.meta.Types[old.Type]--
	}
	if next != nil {
		t.meta.Pins++
		t.meta.Types[next.Type]++
	}
	t.before.fill(s.bytes(), old)
	t.now.fill(s.bytes(), next)
	return t.before.replaceBy(&t.now, t.batch)
}

// countPin counts a pin for a peer, or for everywhere.
func (t *tx) countPin(number uint32, by int) {
	if number == everywhere {
		t.meta.Everywhere += uint64(by)
		return
	}
	t.count(number, by)
}

// indexed is under which peer numbers a pin stands in the index by peer.
func indexed(p *statepb.Pin) []uint32 {
	switch {
	case p == nil:
		return nil
	case p.ReplicationMin == api.Everywhere:
		return []uint32{everywhere}
	}
	return p.Holders
}
