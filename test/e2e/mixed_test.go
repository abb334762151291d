//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/api"
)

// oldPrograms is the folder with cluster-service and cluster-ctl of an earlier
// version. Without it TestMain says loudly what is not tested.
func oldPrograms() string { return os.Getenv("OLD_BIN") }

// Three peers of an earlier version are upgraded one by one while clients
// add: nothing that was acknowledged is lost, and all end with one pinset
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
	w := &adders{peers: c.peers, seed: random.Uint64(), added: map[string]bool{}}
	stop := w.start(ctx, 8)
	w.wait(t, 100)
	for _, p := range c.upgradeOrder(random) {
		if _, err := p.stop(time.Minute); err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
		p.program = ""
		p.startReady()
		c.waitWhole()
		w.wait(t, w.done()+100)
	}
	stop()
	pinset := c.samePinset(time.Minute)
	var roots []api.Cid
	for id := range w.added {
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

// adders add small files through whichever peer answers.
type adders struct {
	peers []*testPeer
	seed  uint64

	mu    sync.Mutex
	added map[string]bool // acknowledged, by CID
}

func (a *adders) start(ctx context.Context, clients int) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	for k := range clients {
		workers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				text := fmt.Appendf(nil, "content %d of client %d of %d", n, k, a.seed)
				if id, err := a.peers[(n+k)%len(a.peers)].addBytes(ctx, text, api.NewAddParams()); err == nil {
					a.mu.Lock()
					a.added[id.String()] = true
					a.mu.Unlock()
				}
				pause(ctx, 20*time.Millisecond)
			}
		})
	}
	return func() { cancel(); workers.Wait() }
}

func (a *adders) done() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.added)
}

func (a *adders) wait(t *testing.T, n int) {
	t.Helper()
	eventually(t, startTime, fmt.Sprintf("%d files are added", n), func(context.Context) error {
		if done := a.done(); done < n {
			return fmt.Errorf("%d are", done)
		}
		return nil
	})
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
