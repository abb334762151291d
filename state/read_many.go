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

// GetMany returns the pins of CIDs, in their order; the pin of a CID that is not
// pinned has revision 0. What changed lately comes from memory, the rest is read
// in the order of the keys with one iterator: both cost a fraction of single
// reads. All writes whose Apply has returned are seen; of one that is under way
// Get may see more than GetMany.
func (p *Pinset) GetMany(cids []cid.Cid) ([]api.Pin, error) {
	g, err := p.acquire()
	if err != nil {
		return nil, err
	}
	defer p.release(g)
	pins := make([]api.Pin, len(cids))
	rest, err := g.getRecent(cids, pins)
	if err == nil && len(rest) > 0 {
		err = g.getStored(cids, pins, rest)
	}
	if err != nil {
		return nil, fmt.Errorf("read pins: %w", err)
	}
	return pins, nil
}

// wanted is a pin that is to be read into a place.
type wanted struct {
	key   []byte
	place int
}

// getRecent reads what is in memory, and returns what is not.
func (g *generation) getRecent(cids []cid.Cid, pins []api.Pin) (rest []wanted, err error) {
	values := make([][]byte, len(cids))
	g.mu.RLock()
	for i, c := range cids {
		key := pinKey(c.Bytes())
		value, known := g.recent.values[string(key)]
		if !known {
			rest = append(rest, wanted{key: key, place: i})
		}
		values[i] = value
	}
	g.mu.RUnlock()
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

// getStored reads from the database.
func (g *generation) getStored(cids []cid.Cid, pins []api.Pin, rest []wanted) error {
	slices.SortFunc(rest, func(a, b wanted) int { return bytes.Compare(a.key, b.key) })
	it, err := g.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		return err
	}
	for _, w := range rest {
		if !it.SeekPrefixGE(w.key) || !bytes.Equal(it.Key(), w.key) {
			continue
		}
		value, err := it.ValueAndErr()
		if err == nil {
			pins[w.place], err = g.decodePin(cids[w.place], value)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}
