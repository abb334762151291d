package state

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"

	"holdfast/api"
)

// GetMany reads the pins of CIDs into as many places, in their order; the pin of a
// CID that is not pinned has revision 0. What changed lately comes from memory,
// the rest is read in the order of the keys with one iterator: both cost a
// fraction of single reads. All writes whose Apply has returned are seen; of one
// that is under way Get may see more than GetMany.
func (p *Pinset) GetMany(cids []cid.Cid, pins []api.Pin) error {
	g, err := p.acquire()
	if err != nil {
		return err
	}
	defer p.release(g)
	clear(pins)
	rest, err := g.getRecent(cids, pins)
	if err == nil && len(rest) > 0 {
		var missed int
		missed, err = g.getStored(cids, pins, rest)
		p.lookedUp(g, missed)
	}
	if err != nil {
		return fmt.Errorf("read pins: %w", err)
	}
	return nil
}

// wanted is a pin that is to be read into a place.
type wanted struct {
	key   []byte
	place int
}

// getRecent reads what is in memory, and returns what has to be looked up.
func (g *generation) getRecent(cids []cid.Cid, pins []api.Pin) (rest []wanted, err error) {
	values := make([][]byte, len(cids))
	var places []int
	g.mu.RLock()
	for i, c := range cids {
		value, known := g.recent.values[c.KeyString()]
		if !known {
			places = append(places, i)
		}
		values[i] = value
	}
	g.mu.RUnlock()
	g.present.mu.RLock()
	for _, i := range places {
		if g.present.set.May(cids[i].KeyString()) {
			rest = append(rest, wanted{key: pinKey(cids[i].Bytes()), place: i})
		}
	}
	g.present.mu.RUnlock()
	for i, value := range values {
		if value == nil {
			continue
		}
		if pins[i], err = g.decodePin(cids[i], value); err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// getStored reads from the database, and returns how many are not there.
func (g *generation) getStored(cids []cid.Cid, pins []api.Pin, rest []wanted) (missed int, err error) {
	slices.SortFunc(rest, func(a, b wanted) int { return bytes.Compare(a.key, b.key) })
	it, err := g.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return 0, err
	}
	for _, w := range rest {
		if !it.SeekPrefixGE(w.key) || !bytes.Equal(it.Key(), w.key) {
			if err := it.Error(); err != nil { // the next seek forgets it
				return 0, errors.Join(err, it.Close())
			}
			missed++
			continue
		}
		value, err := it.ValueAndErr()
		if err == nil {
			pins[w.place], err = g.decodePin(cids[w.place], value)
		}
		if err != nil {
			return 0, errors.Join(err, it.Close())
		}
	}
	return missed, it.Close()
}
