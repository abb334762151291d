package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/state/statepb"
)

// Get returns the pin of a CID, if there is one.
func (p *Pinset) Get(c cid.Cid) (api.Pin, bool, error) {
	g, err := p.acquire()
	if err != nil {
		return api.Pin{}, false, err
	}
	defer p.release(g)
	if g.present.lacks(c.KeyString()) {
		return api.Pin{}, false, nil
	}
	value, closer, err := g.db.Get(pinKey(c.Bytes()))
	if errors.Is(err, pebble.ErrNotFound) {
		p.lookedUp(g, 1)
		return api.Pin{}, false, nil
	}
	if err != nil {
		return api.Pin{}, false, fmt.Errorf("read pin %s: %w", c, err)
	}
	pin, err := g.decodePin(c, value)
	return pin, err == nil, errors.Join(err, closer.Close())
}

func (g *generation) decodePin(c cid.Cid, value []byte) (api.Pin, error) {
	stored := &statepb.Pin{}
	if err := stored.UnmarshalVTUnsafe(value); err != nil {
		return api.Pin{}, fmt.Errorf("decode pin %s: %w", c, err)
	}
	return pinFromProto(c, stored, *g.peers.Load())
}

// Expired returns up to limit pins whose time is over, the earliest first.
func (p *Pinset) Expired(now time.Time, limit int) ([]api.Pin, error) {
	g, err := p.acquire()
	if err != nil {
		return nil, err
	}
	defer p.release(g)
	snapshot := g.db.NewSnapshot()
	defer snapshot.Close()
	var out []api.Pin
	stop := errors.New("enough")
	err = scan(snapshot, []byte{prefixExpiry}, func(key, _ []byte) error {
		if len(key) < 9 {
			return fmt.Errorf("expiry key %x is too short", key)
		}
		if len(out) >= limit || expirySeconds(key) > now.Unix() {
			return stop
		}
		c, err := cid.Cast(key[9:])
		if err != nil {
			return fmt.Errorf("expiry key %x: %w", key, err)
		}
		value, found, err := get(snapshot, pinKey(c.Bytes()))
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("index by expiry names %s, which does not exist", c)
		}
		pin, err := g.decodePin(c, value)
		out = append(out, pin)
		return err
	})
	if err != nil && !errors.Is(err, stop) {
		return nil, fmt.Errorf("list expired pins: %w", err)
	}
	return out, nil
}

// Changes returns what changed after an index, in order, each CID once per
// index. False means that the feed cannot tell: it does not reach back so far,
// or the pinset was not there yet; read Applied, compare the whole pinset, and
// go on from that index.
func (p *Pinset) Changes(since uint64) ([]api.Change, bool) {
	out, err := p.SomeChanges(since, math.MaxInt)
	return out, err == nil
}

// SomeChanges is Changes that reads no further log entry once it has as many
// changes as asked for: the index of the last is where to go on. Errors: gone,
// when the feed does not reach back so far; unavailable, when the pinset has
// not come so far yet.
func (p *Pinset) SomeChanges(since uint64, enough int) ([]api.Change, error) {
	g, err := p.acquire()
	if err != nil {
		return nil, err
	}
	defer p.release(g)
	snapshot := g.db.NewSnapshot()
	defer snapshot.Close()
	meta, err := loadMeta(snapshot)
	switch {
	case err != nil:
		return nil, err
	case since < meta.ChangeFloor:
		return nil, api.Errorf(api.CodeGone, "the changes after index %d are not kept any more; list the pinset, and go on with the changes after index %d", since, meta.Applied)
	case since > meta.Applied:
		return nil, api.Errorf(api.CodeUnavailable, "the pinset of this peer has not reached index %d yet, it is at %d; try again later or ask another peer", since, meta.Applied)
	}
	it, err := snapshot.NewIter(&pebble.IterOptions{
		LowerBound: indexKey(prefixChange, since+1), UpperBound: after([]byte{prefixChange})})
	if err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	var out []api.Change
	for ok := it.First(); ok && err == nil && len(out) < enough; ok = it.Next() {
		out, err = appendChanges(out, it)
	}
	if err := errors.Join(err, it.Error(), it.Close()); err != nil {
		return nil, fmt.Errorf("read changes: %w", err)
	}
	return out, nil
}

func appendChanges(out []api.Change, it *pebble.Iterator) ([]api.Change, error) {
	value, err := it.ValueAndErr()
	if err != nil {
		return nil, err
	}
	changes := &statepb.Changes{}
	if err := changes.UnmarshalVTUnsafe(value); err != nil {
		return nil, fmt.Errorf("decode changes: %w", err)
	}
	index := binary.BigEndian.Uint64(it.Key()[1:])
	for _, data := range changes.Cids {
		c, err := cid.Cast(data)
		if err != nil {
			return nil, fmt.Errorf("decode changes: %w", err)
		}
		out = append(out, api.Change{Index: index, Cid: api.NewCid(c)})
	}
	return out, nil
}

// Members lists the members in the order of their IDs.
func (p *Pinset) Members() ([]api.Member, error) {
	g, err := p.acquire()
	if err != nil {
		return nil, err
	}
	defer p.release(g)
	g.mu.RLock()
	defer g.mu.RUnlock()
	out := make([]api.Member, 0, len(g.members))
	for _, member := range g.members {
		out = append(out, member)
	}
	slices.SortFunc(out, comparePeers)
	return out, nil
}

// Member returns what is known of a member, if the peer is one.
func (p *Pinset) Member(id peer.ID) (api.Member, bool, error) {
	g, err := p.acquire()
	if err != nil {
		return api.Member{}, false, err
	}
	defer p.release(g)
	g.mu.RLock()
	defer g.mu.RUnlock()
	member, ok := g.members[id]
	return member, ok, nil
}
