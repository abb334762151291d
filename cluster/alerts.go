package cluster

import (
	"context"
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
			c.knowBetter(&view)
		}
		out = append(out, c.alertsOf(view)...)
	}
	if !selfSeen { // no leader has spoken yet
		view := api.PeerView{Report: api.PeerReport{Peer: c.cfg.Self, Name: c.cfg.Name}}
		c.knowBetter(&view)
		out = append(out, c.alertsOf(view)...)
	}
	slices.SortStableFunc(out, func(a, b api.Alert) int { return b.TriggeredAt.Compare(a.TriggeredAt) })
	return out
}

// knowBetter replaces what the leader was told of this peer by what is so now.
func (c *Cluster) knowBetter(view *api.PeerView) {
	broken := c.nodeError(context.Background())
	if broken != "" && (view.Report.NodeError == "" || view.Since.IsZero()) {
		view.Since = c.wall()
	}
	view.Report.NodeError, view.Report.Backup, view.Report.Conditions = broken, c.localBackup(), c.conditions.now(c.wall())
}

const nodeBroken = "the peer's IPFS node cannot work: "

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
		add(api.AlertPing, view.Since, "the peer is down: the leader does not hear from it; start it, or repair its network. If it is lost for good, remove it with 'cluster-ctl peers rm' and let another join", nil)
	}
	if report.Peer != c.cfg.Self && (view.State == api.PeerDown || view.State == api.PeerUnknown) {
		return out // what it said before is old; that nobody tells is an alert of this peer
	}
	if report.NodeError != "" {
		add(api.AlertIPFS, view.Since, nodeBroken+report.NodeError, nil)
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
