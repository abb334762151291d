package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/state/statepb"
)

// narrowKeys is how many keys of ranges are sorted in memory: some 6 MB.
const narrowKeys = 1 << 16

// selection is what a filter selects of a snapshot, and how it is found.
type selection struct {
	g      *generation
	r      pebble.Reader
	meta   *statepb.Meta
	filter api.PinFilter
	keys   int          // that may be sorted in memory
	stop   func() error // an error: it shall end

	number uint32 // of filter.Peer; everywhere if it has none
	types  bool   // there are pins of types that are not selected

	lists  [][][]byte // prefixes in which CIDs are in order; of each list any, of all lists one
	ranges []keyRange // all must name a pin; for a long name or prefix, some more are named
	rough  bool       // a range names pins that are not selected
}

// plan finds the indexes that the conditions can be looked up in.
func (s *selection) plan() {
	f := s.filter
	for number, count := range s.meta.Types {
		s.types = s.types || count > 0 && !f.SelectsType(typeNames[statepb.Type(number)])
	}
	if f.Peer != "" {
		prefixes := [][]byte{byPeerKey(everywhere, nil)}
		if s.number = s.g.numberOf(f.Peer); s.number != everywhere {
			prefixes = append(prefixes, byPeerKey(s.number, nil))
		}
		s.lists = append(s.lists, prefixes)
	}
	if f.Name != "" {
		s.lists = append(s.lists, [][]byte{appendNameKey(nil, []byte(f.Name))})
	}
	for k, v := range f.Meta {
		s.lists = append(s.lists, [][]byte{appendMetaKey(nil, []byte(k), []byte(v))})
	}
	if f.NamePrefix != "" {
		from := namePrefixKey([]byte(f.NamePrefix))
		s.ranges = append(s.ranges, newRange(from, after(from)))
		s.rough = len(f.NamePrefix) > nameBytes
	}
	if !f.CreatedAfter.IsZero() || !f.CreatedBefore.IsZero() {
		s.ranges = append(s.ranges, timeRange(f.CreatedAfter, f.CreatedBefore))
	}
}

// timeRange holds the whole seconds between two times, which need not be whole.
func timeRange(later, earlier time.Time) keyRange {
	prefix := []byte{prefixByTime}
	out := newRange(prefix, after(prefix))
	if !later.IsZero() {
		out.from = after(appendSeconds([]byte{prefixByTime}, later.Unix()))
	}
	if !earlier.IsZero() {
		end := earlier.Unix()
		if earlier.Nanosecond() > 0 {
			end++
		}
		out.to = appendSeconds([]byte{prefixByTime}, end)
	}
	if bytes.Compare(out.from, out.to) > 0 {
		out.to = out.from // nothing is between them
	}
	return out
}

// each calls fn with the selected pins in the order of their CIDs, until it
// returns false.
func (s *selection) each(fn func(cid.Cid, *statepb.Pin) (bool, error)) error {
	if len(s.ranges) > 0 {
		found, err := s.narrow()
		if err != nil {
			return err
		}
		if found != nil {
			return s.visit(found, fn)
		}
	}
	if len(s.lists) == 0 {
		return s.scan(fn)
	}
	walk, err := s.openLists()
	if err != nil {
		return err
	}
	return errors.Join(s.visit(walk, fn), walk.close())
}

// scan looks at every pin.
func (s *selection) scan(fn func(cid.Cid, *statepb.Pin) (bool, error)) error {
	pins, err := newCursor(s.r, []byte{prefixPin}, s.filter.After.Cid)
	if err != nil {
		return err
	}
	for ; pins.valid(); pins.it.Next() {
		if more, err := s.offer(pins.cid(), pins, fn); err != nil || !more {
			return errors.Join(err, pins.close())
		}
	}
	return pins.close()
}

// narrow looks the conditions up in the index that names the fewest pins; nil:
// all name many.
func (s *selection) narrow() (*listed, error) {
	var walks []walk
	if len(s.lists) > 0 {
		lists, err := s.openLists()
		if err != nil {
			return nil, err
		}
		walks = append(walks, lists)
	}
	for _, r := range s.ranges {
		walk, err := s.openRange(r, s.filter.After.Cid)
		if err != nil {
			for _, open := range walks {
				err = errors.Join(err, open.close())
			}
			return nil, err
		}
		walks = append(walks, walk)
	}
	return shortest(walks, s.keys/len(walks))
}

func (s *selection) openLists() (*all, error) {
	out := &all{unions: make([]union, len(s.lists)), stop: s.stop}
	for i, prefixes := range s.lists {
		for _, prefix := range prefixes {
			c, err := newCursor(s.r, prefix, s.filter.After.Cid)
			if err != nil {
				return nil, errors.Join(err, out.close())
			}
			out.unions[i] = append(out.unions[i], c)
		}
	}
	return out, nil
}

// matches checks every condition; an index may name more pins than are
// selected.
func (s *selection) matches(pin *statepb.Pin) bool {
	f := &s.filter
	if s.types && !f.SelectsType(typeNames[pin.Type]) {
		return false
	}
	if f.Peer != "" && !s.allocated(pin) {
		return false
	}
	if f.Name != "" && string(pin.Name) != f.Name {
		return false
	}
	if len(pin.Name) < len(f.NamePrefix) || string(pin.Name[:len(f.NamePrefix)]) != f.NamePrefix {
		return false
	}
	if len(f.Meta) > 0 && !hasMeta(pin, f.Meta) {
		return false
	}
	at := time.Unix(pin.GetTimestamp(), 0)
	return (f.CreatedAfter.IsZero() || at.After(f.CreatedAfter)) && (f.CreatedBefore.IsZero() || at.Before(f.CreatedBefore))
}

func (s *selection) allocated(pin *statepb.Pin) bool {
	for _, number := range indexed(pin) {
		if number == everywhere || number == s.number {
			return true
		}
	}
	return false
}

func hasMeta(pin *statepb.Pin, want map[string]string) bool {
	met := 0
	for _, kv := range distinct(pin.Metadata) {
		if value, asked := want[string(kv.Key)]; asked && value == string(kv.Value) {
			met++
		}
	}
	return met == len(want)
}

// count is the number of selected pins.
func (s *selection) count() (uint64, error) {
	switch {
	case !s.types && len(s.lists) == 0 && len(s.ranges) == 0:
		return s.meta.Pins, nil
	case len(s.lists) == 0 && len(s.ranges) == 0:
		return s.countTypes(), nil
	case !s.types && len(s.ranges) == 0 && len(s.lists) == 1 && s.filter.Peer != "":
		return s.countPeer()
	case !s.types && len(s.ranges) == 0:
		walk, err := s.openLists()
		if err != nil {
			return 0, err
		}
		return s.countWalk(walk)
	case !s.types && len(s.ranges) == 1 && len(s.lists) == 0 && !s.rough:
		walk, err := s.openRange(s.ranges[0], cid.Undef)
		if err != nil {
			return 0, err
		}
		return s.countWalk(walk)
	}
	count := uint64(0)
	err := s.each(func(cid.Cid, *statepb.Pin) (bool, error) {
		count++
		return true, nil
	})
	return count, err
}

func (s *selection) countTypes() uint64 {
	out := uint64(0)
	for number, count := range s.meta.Types {
		if s.filter.SelectsType(typeNames[statepb.Type(number)]) {
			out += count
		}
	}
	return out
}

func (s *selection) countPeer() (uint64, error) {
	if s.number == everywhere {
		return s.meta.Everywhere, nil
	}
	named, err := loadCount(s.r, s.number)
	return named + s.meta.Everywhere, err
}

func (s *selection) countWalk(w walk) (uint64, error) {
	count := uint64(0)
	for _, ok := w.next(); ok; _, ok = w.next() {
		if err := s.stop(); err != nil {
			return 0, errors.Join(err, w.close())
		}
		count++
	}
	return count, w.close()
}

// numberOf is the number of a peer, or everywhere when no pin was ever
// allocated to it by name.
func (g *generation) numberOf(id peer.ID) uint32 {
	return uint32(slices.Index(*g.peers.Load(), id) + 1)
}

// loadCount is the number of pins that are allocated to a peer by name.
func loadCount(r pebble.Reader, number uint32) (uint64, error) {
	value, found, err := get(r, peerKey(prefixPeerPins, number))
	if err != nil || !found {
		return 0, err
	}
	if len(value) != 8 {
		return 0, fmt.Errorf("count of peer %d has %d bytes", number, len(value))
	}
	return binary.BigEndian.Uint64(value), nil
}
