package consensus

import (
	"strings"
	"testing"
	"testing/synctest"
)

func TestBacklog(t *testing.T) {
	b := &backlog{floor: 1000}
	if b.due(0) {
		t.Error("a snapshot of nothing is due")
	}
	if got := b.snapshot(7, 0); got != everyEntry {
		t.Errorf("nothing is known, and only %d are kept", got)
	}
	const data = 100 - entryOverhead
	for index := uint64(1); index <= 9; index++ {
		b.add(index, data)
	}
	if b.due(0) {
		t.Error("a snapshot is due too early")
	}
	b.add(10, data)
	if !b.due(0) || b.due(4004) {
		t.Error("a snapshot is due by a quarter of the last one, and at least by the floor")
	}
	for index := uint64(11); index <= 30; index++ {
		b.add(index, data)
	}
	if got := b.snapshot(30, 0); got != 10 {
		t.Errorf("%d entries of 100 bytes are kept, want a thousand bytes", got)
	}
	if b.due(0) {
		t.Error("another is due at once")
	}
	b.most = 5
	if got := b.snapshot(30, 0); got != 5 {
		t.Errorf("%d are kept, 5 at most were asked for", got)
	}
	// A single entry may be larger than all that should be kept.
	b.add(31, 5000)
	if got := b.snapshot(31, 0); got != 1 {
		t.Errorf("%d are kept, want the large one", got)
	}
}

// Large entries make snapshots by their bytes, and the log is cut by its bytes,
// long before their number would; who joins then is sent a snapshot.
func TestLogIsBoundInBytes(t *testing.T) {
	simulate(t, 4, 3, func(p *testPeer) { p.config.TrailingBytes = 10_000 }, func(t *testing.T, c *testCluster) {
		leader := c.leader(c.peers[:3]...)
		for range 200 {
			c.propose(leader, strings.Repeat("x", 2000))
			synctest.Wait() // a snapshot that is due is made before the next entry
		}
		c.wait(leader, leader.log.Stats().CommitIndex)
		for _, p := range c.peers[:3] {
			c.wait(p, leader.log.Stats().CommitIndex)
			if p.log.Stats().SnapshotIndex == 0 {
				t.Errorf("%s made no snapshot", p.id)
			}
			first, last, err := p.log.logs.bounds()
			if err != nil {
				t.Fatal(err)
			}
			// The test's checkpoints have 70,000 bytes, a quarter of which is a
			// budget of nine entries; as many may come before the next snapshot.
			if kept := last - first + 1; kept < 9 || kept > 100 {
				t.Errorf("%s keeps %d entries", p.id, kept)
			}
		}
		before := leader.log.Stats().CommitIndex
		if err := leader.log.AddLearner(t.Context(), c.peers[3].id); err != nil {
			t.Fatal(err)
		}
		if made := leader.log.Stats().SnapshotIndex; made < before {
			t.Errorf("the new peer is sent a snapshot up to %d, and entries up to %d", made, before)
		}
		c.agree()
		if c.peers[3].machine.restores != 1 {
			t.Errorf("%d restores", c.peers[3].machine.restores)
		}
	})
}
