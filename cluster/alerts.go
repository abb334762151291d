package cluster

import (
	"slices"
	"time"

	"holdfast/api"
)

// Alerts lists what an operator should look at now, newest first: what the
// leader told of the peers, and what this peer knows of itself.
func (c *Cluster) Alerts() []api.Alert {
	out := []api.Alert{}
	selfSeen := false
	for _, view := range c.peers.View() {
		if view.Report.Peer == c.cfg.Self {
			selfSeen = true
			view.Report.Backup, view.Report.Conditions = c.localBackup(), c.conditions.now(c.wall())
		}
		out = append(out, c.alertsOf(view)...)
	}
	if !selfSeen { // no leader has spoken yet
		out = append(out, c.alertsOf(api.PeerView{Report: api.PeerReport{Peer: c.cfg.Self, Name: c.cfg.Name, Backup: c.localBackup(),
			Conditions: c.conditions.now(c.wall())}})...)
	}
	slices.SortStableFunc(out, func(a, b api.Alert) int { return b.TriggeredAt.Compare(a.TriggeredAt) })
	return out
}

func (c *Cluster) localBackup() *api.BackupReport {
	if c.backup == nil {
		return nil
	}
	report := c.backup()
	return &report
}

func (c *Cluster) alertsOf(view api.PeerView) []api.Alert {
	var out []api.Alert
	report := view.Report
	add := func(name string, since time.Time, message string, lastGood *time.Time) {
		alert := api.Alert{Name: name, Peer: report.Peer, PeerName: report.Name, TriggeredAt: since.UTC(), Expire: since.UnixNano(),
			Message: message, LastGood: lastGood}
		if report.Version != "" { // it has reported
			alert.ReceivedAt = c.wall().Add(-view.Silent).UnixNano()
		}
		out = append(out, alert)
	}
	if view.State == api.PeerDown {
		add(api.AlertPing, view.Since, "the peer is down: the leader does not hear from it", nil)
		return out // what it said before is old
	}
	if report.NodeError != "" {
		add(api.AlertIPFS, view.Since, "the peer's IPFS node cannot work: "+report.NodeError, nil)
	}
	if backup := report.Backup; backup != nil && backup.Error != "" {
		var lastGood *time.Time
		if !backup.LastGood.IsZero() {
			lastGood = &backup.LastGood
		}
		add(api.AlertBackup, backup.Since, "backups of the pinset fail: "+backup.Error, lastGood)
	}
	for _, condition := range report.Conditions {
		add(condition.Name, condition.Since, condition.Message, nil)
		out[len(out)-1].Subject = condition.Subject
	}
	return out
}
