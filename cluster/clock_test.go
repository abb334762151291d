package cluster

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/api"
)

// INV-EXPIRY: nothing expires early because of the leader's clock alone; it
// waits, with alerts, until a majority of the peers agrees.
func TestExpiryAndClocks(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name    string
		jump    time.Duration   // of the leader's clock since it started
		skews   []time.Duration // of the other peers' clocks, against the leader's
		expires bool            // what has an hour left
		late    bool            // what is overdue by an hour stays, too
		alerts  []string
	}{
		{name: "clocks that agree", skews: []time.Duration{time.Second, -2 * time.Second}},
		{name: "the leader is two days ahead", jump: 2 * day, skews: []time.Duration{-2 * day, -2 * day}, late: true, alerts: []string{api.AlertClock, api.AlertExpiryWaits}},
		{name: "the leader is two days behind", jump: -2 * day, skews: []time.Duration{2 * day, 2 * day}, late: true, alerts: []string{api.AlertClock, api.AlertExpiryWaits}},
		{name: "another one is", skews: []time.Duration{2 * day, 0}},
		{name: "of two one is", jump: 2 * day, skews: []time.Duration{-2 * day}, late: true, alerts: []string{api.AlertClock, api.AlertExpiryWaits}},
		{name: "a lone peer jumps", jump: 2 * day, alerts: []string{api.AlertClock}},
		{name: "a lone peer jumps back", jump: -2 * day, late: true, alerts: []string{api.AlertClock}},
		{name: "all were wrong and are set right", jump: 2 * day, skews: []time.Duration{0, 0}, expires: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1+len(c.skews), nil)
				var jump time.Duration
				w.cluster.wall = func() time.Time { return time.Now().Add(jump) }
				w.cluster.clock = newClock(w.cluster.wall)
				soon, past := testCid(1), testCid(2)
				for id, in := range map[api.Cid]time.Duration{soon: time.Hour, past: time.Minute} {
					if _, err := w.cluster.Pin(t.Context(), api.PinRequest{Cid: id, Options: api.PinOptions{ExpireAt: time.Now().Add(in)}}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(30 * time.Minute)
				jump = c.jump
				for i := range w.view {
					w.view[i].Report.Wall = time.Now()
					if i > 0 {
						w.view[i].Skew = c.skews[i-1]
					}
				}
				w.cluster.expire(t.Context())
				if got := !w.get(soon).Cid.Defined(); got != c.expires {
					t.Errorf("what has half an hour left expired: %v", got)
				}
				if got := w.get(past).Cid.Defined(); got != c.late {
					t.Errorf("what is overdue stays: %v", got)
				}
				var alerts []string
				for _, alert := range w.cluster.Alerts() {
					alerts = append(alerts, alert.Name)
				}
				slices.Sort(alerts)
				if !slices.Equal(alerts, c.alerts) {
					t.Errorf("alerts %v, want %v", alerts, c.alerts)
				}
				jump = 0
				for i := range w.view {
					w.view[i].Skew = 0
				}
				w.cluster.expire(t.Context())
				if w.get(past).Cid.Defined() || len(w.cluster.Alerts()) != 0 {
					t.Errorf("all clocks are right, and it waits still: %+v", w.cluster.Alerts())
				}
			})
		})
	}
}
