//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/api"
)

// oldPrograms is the folder with cluster-service and cluster-ctl of an earlier
// version. Without it TestMain says loudly what is not tested.
func oldPrograms() string { return os.Getenv("OLD_BIN") }

// Three peers of an earlier version are upgraded one by one while clients pin
// and add: nothing that was acknowledged is lost, and all end with one pinset
// and everything pinned.
func TestUpgradeOneByOne(t *testing.T) {
	if oldPrograms() == "" {
		return
	}
	random := seeded(t)
	settings := map[string]string{"CLUSTER_REPLICATION_MIN": "-1", "CLUSTER_REPLICATION_MAX": "-1"}
	c := &testCluster{t: t, base: workDir(t)}
	for k := range 3 {
		p := newPeer(t, c.base, fmt.Sprintf("peer%d", k), settings)
		p.program = filepath.Join(oldPrograms(), "cluster-service")
		if k == 0 {
			p.mustService("init", "--private")
		} else {
			p.mustService("join", "--private", c.token())
		}
		p.startReady()
		c.peers = append(c.peers, p)
	}
	c.waitWhole()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	pins := &pinners{t: t, peers: c.peers, clients: 8, seed: random.Uint64()}
	pinned, stop := pins.start()
	added, adding := map[string]bool{}, make(chan struct{})
	addCtx, stopAdding := context.WithCancel(ctx)
	go func() {
		defer close(adding)
		for n := 0; addCtx.Err() == nil; n++ {
			text := fmt.Appendf(nil, "content %d of %d", n, pins.seed)
			if id, err := c.peers[n%3].addBytes(addCtx, text, api.NewAddParams()); err == nil {
				added[id.String()] = true
			}
			pause(addCtx, 50*time.Millisecond)
		}
	}()
	waitAcked(t, pins, pinned, 200)
	for _, p := range c.upgradeOrder(random) {
		if _, err := p.stop(time.Minute); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		p.program = ""
		p.startReady()
		c.waitWhole()
		waitAcked(t, pins, pinned, pins.done()+100)
	}
	stop()
	stopAdding()
	<-adding
	pinset := c.samePinset(time.Minute)
	pins.check(pinset)
	if len(added) < 20 {
		t.Errorf("%d files were added", len(added))
	}
	var roots []api.Cid
	for id := range added {
		if _, ok := pinset[id]; !ok {
			t.Errorf("the file %s was acknowledged and is in no pinset", id)
		}
		root, err := api.DecodeCid(id)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root)
	}
	c.pinnedByAll(roots...)
	t.Logf("%d files are pinned by all", len(roots))
	hashes := map[string]bool{}
	for _, p := range c.peers {
		if _, err := p.stop(time.Minute); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		hashes[p.stateHash()] = true
		p.whole()
	}
	if len(hashes) != 1 {
		t.Errorf("the peers' pinsets have the hashes %v", hashes)
	}
	c.noPanic()
}

// upgradeOrder is any, with the leader last, as docs/deployment.md says.
func (c *testCluster) upgradeOrder(random *rand.Rand) []*testPeer {
	leader := c.leader()
	var order []*testPeer
	for _, k := range random.Perm(len(c.peers)) {
		if c.peers[k] != leader {
			order = append(order, c.peers[k])
		}
	}
	return append(order, leader)
}
