package monitor

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// poll is how often the clock and the leader are looked at: both cost nothing,
// and a failure is found that much sooner.
const poll = 100 * time.Millisecond

// Run reports and judges until ctx ends; then it returns nil, when everything
// it started is gone.
func (m *Monitor) Run(ctx context.Context) error {
	var sending sync.WaitGroup
	defer sending.Wait()
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	var (
		last    peer.ID            // the leader that was reported to
		due     time.Time          // of the next report
		cancel  = func() {}        // ends the report under way
		result  = make(chan error) // of the report under way
		busy    bool
		failing bool
	)
	defer func() { cancel() }()
	for {
		leader, known := m.leader()
		members := m.members()
		now := time.Now()
		m.mu.Lock()
		m.awake(now)
		m.judge(known && leader == m.cfg.Self, members, now)
		m.mu.Unlock()
		m.tell()
		if known && leader != last {
			// A new leader knows nothing of us: it shall, at once.
			cancel()
			last, due = leader, now
		}
		if known && !busy && !now.Before(due) {
			busy, due = true, now.Add(m.cfg.Interval)
			var rctx context.Context
			// A report that takes longer is worth less than the next one.
			rctx, cancel = context.WithTimeout(ctx, max(m.cfg.Interval, m.cfg.SuspectAfter/2))
			done := cancel
			sending.Go(func() {
				defer done()
				err := m.report(rctx, leader)
				select {
				case result <- err:
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-ticker.C:
		case err := <-result:
			busy = false
			failing = m.note(err, failing, last)
		case <-ctx.Done():
			return nil
		}
	}
}

// note tells of the first report that failed and of the first that came
// through again, so that a long absence of the leader fills no log.
func (m *Monitor) note(err error, failing bool, leader peer.ID) bool {
	switch {
	case errors.Is(err, context.Canceled):
		return failing // called off because the leader changed
	case err != nil && !failing:
		m.logger.Warn("report did not reach the leader; trying on", "leader", leader, "error", err)
	case err == nil && failing:
		m.logger.Info("reports reach the leader again", "leader", leader)
	}
	if err != nil && m.events.ReportFailed != nil {
		m.events.ReportFailed(err)
	}
	return err != nil
}

// report sends one report to the leader and keeps what comes back.
func (m *Monitor) report(ctx context.Context, leader peer.ID) error {
	report := m.collect(ctx)
	report.Peer = m.cfg.Self
	if leader == m.cfg.Self {
		_, err := m.Receive(ctx, m.cfg.Self, report)
		return err
	}
	sent := time.Now()
	digest, err := m.sender.Report(ctx, leader, report)
	if err != nil {
		return err
	}
	m.keep(digest, sent)
	return nil
}

// Report tells the leader of this peer now, and not by the clock: something has
// changed that decisions rest on. Errors: no_leader, or what became of it.
func (m *Monitor) Report(ctx context.Context) error {
	leader, known := m.leader()
	if !known {
		return api.Errorf(api.CodeNoLeader, "there is no leader to report to")
	}
	ctx, cancel := context.WithTimeout(ctx, max(m.cfg.Interval, m.cfg.SuspectAfter/2))
	defer cancel()
	return m.report(ctx, leader)
}

// keep stores the leader's view, unless this peer leads by now. It is as old as
// the question, for the answer may have been long on its way.
func (m *Monitor) keep(digest api.Digest, asked time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leading || asked.Before(m.digestAt) {
		return
	}
	same := slices.EqualFunc(m.digest, digest.Peers, func(a, b api.PeerView) bool {
		return a.Report.Peer == b.Report.Peer && a.State == b.State
	})
	m.digest, m.digestAt = digest.Peers, asked
	if !same {
		m.change()
	}
}
