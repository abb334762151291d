//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

// Two of three peers are destroyed. The third goes on alone with every pin,
// takes writes, and new peers get their replicas.
func TestRecoverFromOne(t *testing.T) {
	c := newCluster(t, 3, map[string]string{"CLUSTER_REPAIR_BELOW_MAX_GRACE": "5s"})
	survivor := c.peers[2]
	params := api.NewAddParams()
	params.ReplicationFactorMin, params.ReplicationFactorMax = 1, 3
	var roots []api.Cid
	for n := range 3 {
		root, err := c.peers[n].addBytes(t.Context(), []byte(strings.Repeat(fmt.Sprint("kept ", n), 1<<12)), params)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	c.pinnedByAll(roots...)
	before := c.samePinset(time.Minute)

	if out, err := survivor.service("recover", "--force-new-cluster", "--yes"); exitCode(err) != 1 || !strings.Contains(out, "another process runs a peer") {
		t.Errorf("a running peer was recovered: %v\n%s", err, out)
	}
	for _, p := range c.peers[:2] {
		p.kill()
		if err := os.RemoveAll(p.dir); err != nil {
			t.Fatal(err)
		}
	}
	survivor.kill()
	if out, err := survivor.service("recover"); exitCode(err) != 1 || !strings.Contains(out, "--force-new-cluster") {
		t.Errorf("recover without saying how: %v\n%s", err, out)
	}
	out, err := survivor.service("recover", "--force-new-cluster")
	if exitCode(err) != 1 || !strings.Contains(out, "nothing was changed") || !strings.Contains(out, "removed: "+c.peers[0].id.String()) {
		t.Errorf("recover without a yes: %v\n%s", err, out)
	}
	survivor.mustService("recover", "--force-new-cluster", "--yes")
	survivor.mustService("recover", "--force-new-cluster", "--yes") // once more changes nothing
	c.peers = []*testPeer{survivor}
	survivor.startReady()
	c.waitWhole()
	if n := len(c.members()); n != 1 {
		t.Errorf("there are %d members", n)
	}
	after, err := survivor.pinset(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for id := range before {
		if _, kept := after[id]; !kept {
			t.Errorf("%s is gone", id)
		}
	}
	added, err := survivor.addBytes(t.Context(), []byte("after the disaster"), params)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"peer3", "peer4"} {
		c.join(name, map[string]string{"CLUSTER_REPAIR_BELOW_MAX_GRACE": "5s"}).waitReady(startTime)
	}
	c.waitWhole()
	c.pinnedByAll(append(roots, added)...)
	c.samePinset(time.Minute)
	c.noPanic()
}

// pinnedByAll waits until every running peer has pinned everything.
func (c *testCluster) pinnedByAll(roots ...api.Cid) {
	c.t.Helper()
	eventually(c.t, 2*time.Minute, "all pinned by all", func(ctx context.Context) error {
		for _, p := range c.alive() {
			for _, root := range roots {
				if info, err := p.status(ctx, root); err != nil || info.Status != api.StatusPinned {
					return fmt.Errorf("%s on %s: %s %v", root, p.name, info.Status, err)
				}
			}
		}
		return nil
	})
}
