package cluster

import (
	"slices"
	"strconv"
	"strings"
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

// What a part of a peer says of itself is told to the leader and to everybody
// who asks the peer, with the time when it began, until it is gone.
func TestConditions(t *testing.T) {
	w := newWorld(t, 2, nil)
	var wrong []api.Condition
	w.cluster.conditions.tell = func() []api.Condition { return slices.Clone(wrong) }
	clock := time.Unix(1000, 0)
	w.cluster.wall = func() time.Time { return clock }
	report := func() []api.Condition { return w.cluster.LocalReport(t.Context()).Conditions }
	if got := report(); len(got) != 0 {
		t.Fatalf("nothing is wrong, and the leader is told %+v", got)
	}
	b, a := api.Condition{Name: "block", Subject: "b", Message: "damaged"}, api.Condition{Name: "block", Subject: "a", Message: "damaged"}
	wrong = []api.Condition{b}
	report()
	clock = clock.Add(time.Hour)
	wrong = []api.Condition{b, a}
	got := report()
	if len(got) != 2 || got[0].Subject != "a" || !got[0].Since.Equal(clock) || !got[1].Since.Equal(clock.Add(-time.Hour)) {
		t.Errorf("the leader is told %+v", got)
	}
	w.view[1].Report.Conditions = []api.Condition{{Name: "disk", Message: "full", Since: clock.Add(time.Minute)}}
	alerts := w.cluster.Alerts()
	if len(alerts) != 3 || alerts[0].Name != "disk" || alerts[0].Peer != testPeer(1) || alerts[1].Subject != "a" || alerts[2].Subject != "b" || alerts[2].Message != "damaged" {
		t.Errorf("alerts are %+v", alerts)
	}
	wrong = nil
	if got := report(); len(got) != 0 {
		t.Errorf("what is over is still told: %+v", got)
	}
	clock = clock.Add(time.Hour)
	wrong = []api.Condition{b}
	if got := report(); len(got) != 1 || !got[0].Since.Equal(clock) {
		t.Errorf("what came back began %+v, want %v", got, clock)
	}
	for i := range 2 * maxConditions {
		wrong = append(wrong, api.Condition{Name: "many", Subject: strconv.Itoa(i), Message: "wrong"})
	}
	if got := report(); len(got) != maxConditions || !strings.Contains(got[maxConditions-1].Message, "65 more") {
		t.Errorf("%d conditions are told, the last %+v", len(got), got[len(got)-1])
	}
}
