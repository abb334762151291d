//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"holdfast/api"
)

// A peer that is told to leaves its cluster when it is stopped: first a
// follower, then the leader. One whose copies are needed stays.
func TestLeaveOnShutdown(t *testing.T) {
	c := newCluster(t, 4, map[string]string{"CLUSTER_CLUSTER_LEAVE_ON_SHUTDOWN": "true"})
	follower := c.peers[3]
	if follower == c.leader() {
		follower = c.peers[2]
	}
	c.leaves(follower)
	c.leaves(c.leader())

	needed := c.alive()[0]
	if _, err := needed.rest.Pin(t.Context(), rawCid(t, 7, 7), api.PinOptions{ReplicationFactorMin: 2, ReplicationFactorMax: 2}); err != nil {
		t.Fatal(err)
	}
	if _, err := needed.stop(startTime); err != nil {
		t.Errorf("%s stopped with %v", needed.name, err)
	}
	if lines := needed.logLines("stays a member"); len(lines) == 0 {
		t.Errorf("%s does not say why it stays a member", needed.name)
	}
	needed.startReady()
	c.waitWhole()
	if members := c.members(); len(members) != 2 {
		t.Errorf("there are %d members, want 2", len(members))
	}
}

// leaves stops a peer, and sees the others without it.
func (c *testCluster) leaves(p *testPeer) {
	c.t.Helper()
	before := len(c.members())
	if _, err := p.stop(startTime); err != nil {
		c.t.Errorf("%s stopped with %v", p.name, err)
	}
	eventually(c.t, startTime, p.name+" has left", func(context.Context) error {
		if now := len(c.members()); now != before-1 {
			return fmt.Errorf("there are %d members", now)
		}
		return nil
	})
	if out, err := p.service("daemon"); exitCode(err) != 1 || !strings.Contains(out, "join TOKEN") {
		c.t.Errorf("%s starts again after it has left: %v\n%s", p.name, err, out)
	}
	c.waitWhole()
}
