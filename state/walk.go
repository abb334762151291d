package state

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/ipfs/go-cid"
)

// walk yields CIDs. What it returns is valid until the next call.
type walk interface {
	next() ([]byte, bool)
	close() error // also tells of an error that ended the walk
}

// cursor goes through the keys below a prefix whose rest is a CID.
type cursor struct {
	it     *pebble.Iterator
	prefix []byte
	key    []byte // scratch
	steps  int    // worth trying before a seek, as the last ones went
}

// newCursor stands at the first CID after last.
func newCursor(r pebble.Reader, prefix []byte, last cid.Cid) (*cursor, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: startAfter(prefix, last), UpperBound: after(prefix)})
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	it.First()
	return &cursor{it: it, prefix: prefix, steps: maxSteps}, nil
}

func (c *cursor) valid() bool { return c.it.Valid() }

func (c *cursor) cid() []byte { return c.it.Key()[len(c.prefix):] }

// seek moves to a CID, or to the first after it. A step forward costs a tenth
// of a seek, so some are tried as long as they lead there.
func (c *cursor) seek(data []byte) {
	if c.valid() && string(c.cid()) <= string(data) {
		for range c.steps {
			if string(c.cid()) >= string(data) {
				break
			}
			if !c.it.Next() {
				return
			}
		}
		if string(c.cid()) >= string(data) {
			c.steps = min(c.steps+1, maxSteps)
			return
		}
	}
	c.steps = max(c.steps/2, 1)
	c.key = append(append(c.key[:0], c.prefix...), data...)
	c.it.SeekGE(c.key)
}

// maxSteps find what is in a list that holds a tenth of all.
const maxSteps = 10

func (c *cursor) close() error { return errors.Join(c.it.Error(), c.it.Close()) }

// union is what is in any of some cursors. A pin is in one of them only.
type union []*cursor

// least is the cursor that stands at the smallest CID, nil at the end.
func (u union) least() *cursor {
	var out *cursor
	for _, c := range u {
		if c.valid() && (out == nil || string(c.cid()) < string(out.cid())) {
			out = c
		}
	}
	return out
}

// seek moves to a CID, or to the first after it.
func (u union) seek(data []byte) {
	for _, c := range u {
		if c.valid() && string(c.cid()) < string(data) {
			c.seek(data)
		}
	}
}

// all walks what is in every one of some unions: each is moved to where the
// farthest stands, until all stand at one CID.
type all struct {
	unions []union
	stop   func() error // an error: the walk shall end
	last   []byte
	begun  bool
	err    error
}

func (a *all) next() ([]byte, bool) {
	if a.begun {
		if first := a.unions[0].least(); first != nil {
			first.it.Next()
		}
	}
	a.begun = true
	for agreed := 0; agreed < len(a.unions); {
		if a.err = a.stop(); a.err != nil {
			return nil, false
		}
		u := a.unions[agreed]
		if agreed > 0 {
			u.seek(a.last)
		}
		at := u.least()
		switch {
		case at == nil:
			return nil, false
		case agreed == 0 || string(at.cid()) != string(a.last):
			a.last = append(a.last[:0], at.cid()...)
			if agreed > 0 {
				a.unions[0].seek(a.last)
				agreed = 0
				continue
			}
		}
		agreed++
	}
	return a.last, true
}

func (a *all) close() error {
	err := a.err
	for _, u := range a.unions {
		for _, c := range u {
			err = errors.Join(err, c.close())
		}
	}
	return err
}

// keyRange is a part of an index in which CIDs are not in order.
type keyRange struct{ from, to []byte }

func newRange(from, to []byte) keyRange { return keyRange{from: from, to: to} }

// rangeWalk walks the CIDs of a range in the order of its keys, or backwards.
type rangeWalk struct {
	it    *pebble.Iterator
	back  bool
	last  string // CIDs up to this one are returned as none
	begun bool
	err   error
}

func (s *selection) openRange(r keyRange, last cid.Cid) (*rangeWalk, error) {
	it, err := s.r.NewIter(&pebble.IterOptions{LowerBound: r.from, UpperBound: r.to})
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	return &rangeWalk{it: it, last: last.KeyString()}, nil
}

func (w *rangeWalk) next() ([]byte, bool) {
	step := w.it.Next
	switch {
	case w.back && w.begun:
		step = w.it.Prev
	case w.back:
		step = w.it.Last
	case !w.begun:
		step = w.it.First
	}
	w.begun = true
	if ok := step(); !ok || w.err != nil {
		return nil, false
	}
	data, ok := cidOf(w.it.Key())
	if !ok {
		w.err = fmt.Errorf("list pins: key %x of an index is damaged", w.it.Key())
		return nil, false
	}
	if w.last != "" && string(data) <= w.last {
		return nil, true
	}
	return data, true
}

func (w *rangeWalk) close() error { return errors.Join(w.err, w.it.Error(), w.it.Close()) }

// listed walks CIDs that are in memory.
type listed []string

func (l *listed) next() ([]byte, bool) {
	if len(*l) == 0 {
		return nil, false
	}
	first := (*l)[0]
	*l = (*l)[1:]
	return []byte(first), true
}

func (*listed) close() error { return nil }

// shortest runs some walks side by side until one ends, and returns what that
// one yielded, sorted. Nil: none ended within so many steps. It closes the
// walks.
func shortest(walks []walk, steps int) (found *listed, err error) {
	defer func() {
		for _, w := range walks {
			err = errors.Join(err, w.close())
		}
	}()
	cids := make([][]string, len(walks))
	for range steps {
		for i, w := range walks {
			data, ok := w.next()
			if !ok {
				slices.Sort(cids[i])
				return (*listed)(&cids[i]), nil
			}
			if data != nil {
				cids[i] = append(cids[i], string(data))
			}
		}
	}
	return nil, nil
}
