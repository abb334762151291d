package monitor

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Receive takes a peer's report on the leader, and returns the leader's view of
// all peers. from is who sent it, as the connection proves it. The error has
// code forbidden for a report about somebody else or from a stranger, and
// no_leader when this peer does not lead.
func (m *Monitor) Receive(_ context.Context, from peer.ID, report api.PeerReport) (api.Digest, error) {
	if report.Peer != from {
		return api.Digest{}, api.Errorf(api.CodeForbidden, "peer %s sent a report about %s; a peer reports about itself", from, report.Peer)
	}
	leader, _ := m.leader()
	members := m.members()
	if leader != m.cfg.Self {
		return api.Digest{}, api.Errorf(api.CodeNoLeader, "peer %s does not lead", m.cfg.Self)
	}
	if !slices.Contains(members, from) {
		return api.Digest{}, api.Errorf(api.CodeForbidden, "peer %s is not a member of the cluster", from)
	}
	defer m.tell()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.lead(true, now)
	m.enroll(members, now)
	m.hear(m.peers[from], report, now)
	return api.Digest{Leader: m.cfg.Self, Peers: m.views()}, nil
}

// View returns all peers that are known, in the order of their IDs. While this
// peer leads it is its own judgement, else what the leader said last, which is
// nothing before the first report came through. What is told ages: a peer is
// silent for as long as the leader's word is old, too, and its state is unknown
// once that is older than SuspectAfter.
func (m *Monitor) View() []api.PeerView {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leading {
		return m.views()
	}
	out := slices.Clone(m.digest)
	age := time.Since(m.digestAt)
	for i := range out {
		out[i].Silent += age
		if age >= m.cfg.SuspectAfter {
			out[i].State, out[i].Since = api.PeerUnknown, m.digestAt.Add(m.cfg.SuspectAfter)
		}
	}
	return out
}

// Confirmed returns how long ago a leader answered this peer's report: 0 while
// this peer leads. false: none ever did.
func (m *Monitor) Confirmed() (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leading {
		return 0, true
	}
	return time.Since(m.digestAt), !m.digestAt.IsZero()
}

// Changed returns a channel that is closed when next a peer in View comes,
// goes or changes its state. Get it before reading View.
func (m *Monitor) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// judge looks at the clock: who has been silent for how long. It also notices
// that leadership began or ended. Under mu.
func (m *Monitor) judge(leading bool, members []peer.ID, now time.Time) {
	m.lead(leading, now)
	if !leading {
		return
	}
	m.enroll(members, now)
	for _, s := range m.peers {
		switch silent := now.Sub(s.heard); {
		case silent >= m.cfg.DownAfter:
			s.good = 0
			m.become(s, api.PeerDown, now)
		case silent >= m.cfg.SuspectAfter && !s.mute && s.view.State == api.PeerUp:
			// One that this leader has not heard yet has the whole of DownAfter: it
			// may not know who leads.
			s.good = 0
			m.become(s, api.PeerSuspect, now)
		case silent >= m.cfg.SuspectAfter:
			s.good = 0
		}
	}
}

// lead begins or ends leadership. A new leader starts from what the last one
// said, and with everyone's clock at zero; who leads no longer goes on with
// its own judgement until the new leader sends one. Under mu.
func (m *Monitor) lead(leading bool, now time.Time) {
	switch {
	case leading == m.leading:
		return
	case leading:
		m.leading, m.peers = true, make(map[peer.ID]*subject)
		for _, view := range m.digest { // as the last leader judged them, however long ago
			view.Report.Wall, view.Skew = time.Time{}, 0 // until it tells what time it is
			m.peers[view.Report.Peer] = &subject{view: view, heard: now, mute: true}
		}
	default:
		m.leading, m.digest, m.digestAt, m.peers = false, m.views(), now, nil
	}
}

// enroll makes the subjects those who are members. Under mu.
func (m *Monitor) enroll(members []peer.ID, now time.Time) {
	for id := range m.peers {
		if !slices.Contains(members, id) {
			delete(m.peers, id)
			m.change()
		}
	}
	for _, id := range members {
		if m.peers[id] == nil {
			s := &subject{view: api.PeerView{Report: api.PeerReport{Peer: id}}, heard: now, mute: true, fresh: true}
			m.peers[id] = s
			m.become(s, api.PeerSuspect, now) // until it says something
		}
	}
}

// hear judges a report. Under mu.
func (m *Monitor) hear(s *subject, report api.PeerReport, now time.Time) {
	s.view.Report, s.heard, s.mute = report, now, false
	if report.NodeError != "" {
		s.good = 0
		m.become(s, api.PeerSuspect, now)
		return
	}
	s.good++
	first := s.fresh && s.view.State != api.PeerDown
	s.fresh = false
	if first || s.good >= trusted {
		m.become(s, api.PeerUp, now)
	}
}

// become changes a state, once. Under mu.
func (m *Monitor) become(s *subject, state api.PeerState, now time.Time) {
	if s.view.State == state {
		return
	}
	before := s.view.State
	s.view.State, s.view.Since = state, now
	m.untold = append(m.untold, transition{view: s.view, before: before})
	m.change()
}

// awake forgives everyone the time for which this process itself stood still:
// it was not they who were silent. Under mu.
func (m *Monitor) awake(now time.Time) {
	if slept := now.Sub(m.polled); !m.polled.IsZero() && slept > m.cfg.SuspectAfter/2 {
		for _, s := range m.peers {
			if s.heard = s.heard.Add(slept); s.heard.After(now) {
				s.heard = now
			}
		}
	}
	m.polled = now
}

// views returns the leader's judgement in the order of peer IDs. Under mu.
func (m *Monitor) views() []api.PeerView {
	out := make([]api.PeerView, 0, len(m.peers))
	now := time.Now()
	for _, s := range m.peers {
		view := s.view
		view.Silent = now.Sub(s.heard)
		if wall := view.Report.Wall; !wall.IsZero() && view.Report.Peer != m.cfg.Self {
			// Its clock has gone on since; ours may have been set just now.
			view.Skew = wall.Add(view.Silent).Sub(m.wall())
		}
		out = append(out, view)
	}
	slices.SortFunc(out, func(a, b api.PeerView) int {
		return strings.Compare(string(a.Report.Peer), string(b.Report.Peer))
	})
	return out
}

// change wakes those who wait for Changed. Under mu.
func (m *Monitor) change() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// tell calls the event for each transition, in their order, one at a time.
func (m *Monitor) tell() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.telling {
		return // whoever does it will see ours, too
	}
	m.telling = true
	for len(m.untold) > 0 {
		next := m.untold[0]
		m.untold = m.untold[1:]
		m.mu.Unlock()
		m.logger.Info("peer state changed", "peer", next.view.Report.Peer, "state", next.view.State,
			"before", next.before, "node_error", next.view.Report.NodeError)
		if m.events.StateChanged != nil {
			m.events.StateChanged(next.view, next.before)
		}
		m.mu.Lock()
	}
	m.telling = false
}
