//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

// Two of three peers die. The third is alive and says by itself, wherever it is
// asked, that it cannot take writes, why, and how old what it knows is; when
// one comes back, all is well again.
func TestWithoutQuorum(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	var others []*testPeer
	for _, p := range c.peers {
		if p != leader {
			others = append(others, p)
		}
	}
	back, last := others[0], others[1]
	if err := last.rest.Ready(t.Context()); err != nil {
		t.Errorf("all is well, and %s says %v", last.name, err)
	}
	leader.kill()
	back.kill()
	var alert api.Alert
	eventually(t, time.Minute, "an alert without a leader", func(ctx context.Context) error {
		alerts, err := last.rest.Alerts(ctx)
		if err != nil || len(alerts) != 1 || alerts[0].Name != api.AlertNoLeader || alerts[0].Peer != last.id {
			return fmt.Errorf("alerts %+v: %w", alerts, errors.Join(err))
		}
		alert = alerts[0]
		return nil
	})
	for _, want := range []string{leader.name, back.name, "of 3 voters 2"} {
		if !strings.Contains(alert.Message, want) {
			t.Errorf("%q is not in %q", want, alert.Message)
		}
	}
	eventually(t, time.Minute, "states that are unknown", func(ctx context.Context) error {
		for id, err := range last.rest.Peers(ctx) {
			if err != nil || id.State != api.PeerUnknown || id.ID != last.id && (id.HeardSeconds == nil || id.Error == "") || id.ID == last.id && len(id.Reachable) != 0 {
				return fmt.Errorf("%+v: %w", id, errors.Join(err))
			}
		}
		return nil
	})
	for path, want := range map[string]int{"/health": http.StatusNoContent, "/health/ready": http.StatusServiceUnavailable} {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", last.ports.rest, path))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: %s", path, resp.Status)
		}
	}
	for code, command := range map[int][]string{0: {"health", "alive"}, 2: {"health", "ready"}} {
		if out, problems, err := last.ctl(time.Minute, command...); exitCode(err) != code {
			t.Errorf("cluster-ctl %v: %v\n%s%s", command, err, out, problems)
		}
		if out, err := last.service(command...); exitCode(err) != min(code, 1) {
			t.Errorf("cluster-service %v: %v\n%s", command, err, out)
		}
	}
	if out := last.mustCtl(time.Minute, "peers", "ls"); !strings.Contains(out, "Sees 0 other peers") || !strings.Contains(out, "ALERTS: no_leader") || !strings.Contains(out, "unknown, last heard of") {
		t.Errorf("peers ls:\n%s", out)
	}
	again, err := last.rest.Alerts(t.Context())
	if err != nil || len(again) != 1 || !again[0].TriggeredAt.Equal(alert.TriggeredAt) || time.Duration(again[0].ReceivedAt-alert.ReceivedAt).Abs() > 100*time.Millisecond {
		t.Errorf("the alert was %+v and is %+v, %v", alert, again, err)
	}
	back.startReady()
	eventually(t, time.Minute, "all is well again", func(ctx context.Context) error {
		return errors.Join(last.rest.Ready(ctx), back.rest.Ready(ctx))
	})
}
