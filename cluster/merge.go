package cluster

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// merge joins the ordered statuses of the peers with the pinset. Each source
// is one step ahead; a step takes the smallest CID of all.
type merge struct {
	c       *Cluster
	query   api.StatusQuery
	members []peer.ID
	sources []*source
	pins    *cursor[api.Pin] // nil when the filter asks only for what trackers know
}

// cursor reads a sequence one item ahead.
type cursor[T any] struct {
	pull func() (T, error, bool)
	stop func()
	item T
	err  error
	ok   bool
}

func newCursor[T any](items iter.Seq2[T, error]) *cursor[T] {
	c := &cursor[T]{}
	c.pull, c.stop = iter.Pull2(items)
	c.advance()
	return c
}

func (c *cursor[T]) advance() {
	c.item, c.err, c.ok = c.pull()
}

// source is the statuses of one peer. When the peer cannot be asked, or stops
// answering half way, the rest is told from the pinset as cluster_error.
type source struct {
	*cursor[api.PinInfo]
	member peer.ID
	failed string
}

func (c *Cluster) newMerge(ctx context.Context, q api.StatusQuery) *merge {
	m := &merge{c: c, query: q, members: c.memberIDs()}
	if q.Local {
		m.members = []peer.ID{c.cfg.Self}
	}
	perPeer := q
	perPeer.Limit = 0
	if q.Filter&api.StatusRemote != 0 {
		// Remote is what trackers know nothing of, so all that they know is needed.
		perPeer.Filter = api.StatusUndefined
	}
	// All are asked at once: those that do not answer cost the time of one.
	var asked sync.WaitGroup
	for _, member := range m.members {
		s := &source{member: member}
		m.sources = append(m.sources, s)
		asked.Go(func() {
			if member == c.cfg.Self {
				s.cursor = newCursor(c.LocalStatusAll(ctx, perPeer))
			} else if err := c.reachable(member); err != nil {
				m.fallBack(s, err.Error(), q.After)
			} else {
				begun := time.Now()
				s.cursor = newCursor(c.remote.StatusAll(ctx, member, perPeer))
				c.unanswered(ctx, member, begun, s.err)
			}
			m.check(s, q.After)
		})
	}
	asked.Wait()
	if q.Filter == api.StatusUndefined || q.Filter&api.StatusRemote != 0 {
		m.pins = newCursor(c.state.Pins(api.PinFilter{After: q.After}))
	}
	return m
}

// check replaces a source that failed.
func (m *merge) check(s *source, after api.Cid) {
	if s.ok && s.err != nil && s.failed == "" {
		reason := s.err.Error()
		s.stop()
		m.fallBack(s, reason, after)
	}
}

// fallBack tells of a peer that cannot be asked what the pinset asks of it.
func (m *merge) fallBack(s *source, reason string, after api.Cid) {
	s.failed = reason
	pins := m.c.state.Pins(api.PinFilter{Peer: s.member, After: after})
	if m.pins == nil && !api.StatusClusterError.Match(m.query.Filter) {
		pins = func(func(api.Pin, error) bool) {}
	}
	s.cursor = newCursor(func(yield func(api.PinInfo, error) bool) {
		for pin, err := range pins {
			info := api.PinInfo{Cid: pin.Cid, Name: pin.Name, Peer: s.member}
			info.PinInfoShort = m.c.about(s.member, api.StatusClusterError, time.Now(), reason)
			if !yield(info, err) {
				return
			}
		}
	})
}

func (m *merge) stop() {
	for _, s := range m.sources {
		s.stop()
	}
	if m.pins != nil {
		m.pins.stop()
	}
}

// next returns the status of the next CID; its PeerMap may be empty.
func (m *merge) next(ctx context.Context) (api.GlobalPinInfo, bool, error) {
	least, ok, err := m.least()
	if err != nil || !ok {
		return api.GlobalPinInfo{}, false, err
	}
	var global api.GlobalPinInfo
	var pin api.Pin
	inPinset := false
	if m.pins != nil && m.pins.ok && m.pins.item.Cid.Equals(least.Cid) {
		pin, inPinset = m.pins.item, true
		global = pin.GlobalInfo()
		m.pins.advance()
	} else {
		global = m.c.begin(least)
	}
	for _, s := range m.sources {
		if s.ok && s.item.Cid.Equals(least.Cid) {
			global.PeerMap[s.member.String()] = s.item.PinInfoShort
			begun := time.Now()
			s.advance()
			m.c.unanswered(ctx, s.member, begun, s.err)
			m.check(s, least)
		}
	}
	if inPinset {
		m.fill(global, pin)
	}
	maps.DeleteFunc(global.PeerMap, func(_ string, short api.PinInfoShort) bool { return !short.Status.Match(m.query.Filter) })
	return global, true, nil
}

// fill adds the peers whose trackers say nothing of a pin: those that do not
// hold it, and those that have not seen it yet.
func (m *merge) fill(global api.GlobalPinInfo, pin api.Pin) {
	for _, member := range m.members {
		if _, told := global.PeerMap[member.String()]; told {
			continue
		}
		status := api.StatusRemote
		if pin.AllocatedTo(member) {
			status = api.StatusPinQueued
		}
		if status.Match(m.query.Filter) {
			global.PeerMap[member.String()] = m.c.about(member, status, pin.Timestamp, "")
		}
	}
}

// least is the smallest CID that any source stands at.
func (m *merge) least() (api.Cid, bool, error) {
	var least api.Cid
	found := false
	consider := func(c api.Cid) {
		if !found || bytes.Compare(c.Bytes(), least.Bytes()) < 0 {
			least, found = c, true
		}
	}
	for _, s := range m.sources {
		if s.ok && s.err != nil {
			return least, false, s.err // of the local pinset: a source that failed was replaced
		}
		if s.ok {
			consider(s.item.Cid)
		}
	}
	if m.pins != nil && m.pins.ok {
		if m.pins.err != nil {
			return least, false, m.pins.err
		}
		consider(m.pins.item.Cid)
	}
	return least, found, nil
}
