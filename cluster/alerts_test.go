package cluster

import (
	"testing"
	"time"

	"holdfast/api"
)

// What is wrong with any peer is told by every peer, the newest first, and
// nothing when all is well. Of itself a peer knows without a leader.
func TestAlerts(t *testing.T) {
	w := newWorld(t, 4, nil)
	if got := w.cluster.Alerts(); len(got) != 0 {
		t.Errorf("all is well, and there are alerts: %+v", got)
	}
	at := func(minute int) time.Time { return time.Unix(int64(60*minute), 0).UTC() }
	w.setState(1, api.PeerDown)
	w.view[1].Since = at(1)
	w.view[2].Report.NodeError, w.view[2].Since = "disk gone", at(2)
	w.view[3].Report.Backup = &api.BackupReport{Error: "read-only", Since: at(4)}
	w.cluster.backup = func() api.BackupReport { return api.BackupReport{LastGood: at(0), Error: "full", Since: at(3)} }
	if report := w.cluster.LocalReport(t.Context()); report.Backup == nil || report.Backup.Error != "full" {
		t.Errorf("the leader is told %+v", report.Backup)
	}
	want := []struct {
		name string
		peer int
		at   time.Time
	}{{api.AlertBackup, 3, at(4)}, {api.AlertBackup, 0, at(3)}, {api.AlertIPFS, 2, at(2)}, {api.AlertPing, 1, at(1)}}
	got := w.cluster.Alerts()
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i, a := range got {
		if a.Name != want[i].name || a.Peer != testPeer(want[i].peer) || !a.TriggeredAt.Equal(want[i].at) || a.Expire != want[i].at.UnixNano() || a.Message == "" {
			t.Errorf("alert %d is %+v, want %+v", i, a, want[i])
		}
	}
	if got[0].LastGood != nil || got[1].LastGood == nil || !got[1].LastGood.Equal(at(0)) {
		t.Errorf("last good backups: %v and %v", got[0].LastGood, got[1].LastGood)
	}
	w.view = nil
	if got := w.cluster.Alerts(); len(got) != 1 || got[0].Peer != testPeer(0) {
		t.Errorf("before a leader has spoken: %+v", got)
	}
}
