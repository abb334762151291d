package consensus

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// seed returns the seed of a random test: CONSENSUS_SEED, or one of its own.
func seed(t testing.TB) uint64 {
	value := uint64(time.Now().UnixNano())
	if text := os.Getenv("CONSENSUS_SEED"); text != "" {
		parsed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		value = parsed
	}
	t.Logf("CONSENSUS_SEED=%d", value)
	return value
}

// Five peers, sixty disturbances: partitions, stops, crashes that lose what the
// machine had not synced, snapshots. All the while a client writes. What was
// acknowledged is there in the end, once, on every peer and at its index.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 0))
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 5, 5, func(p *testPeer) {
			p.config.TrailingLogs, p.config.SnapshotThreshold, p.config.SnapshotInterval = 5, 20, time.Second
		})
		c.start(c.peers...)
		defer c.stopAll()
		w := startWriter(c)
		for range 60 {
			disturb(c, w, rng)
			<-time.After(time.Duration(1+rng.IntN(20)) * time.Second)
		}
		w.stop()
		clear(c.cut)
		for _, p := range c.peers {
			if p.done == nil {
				c.start(p)
			}
		}
		c.connect()
		w.check(c.agree())
		if restores := c.totalRestores(); restores == 0 {
			t.Log("no peer was sent a snapshot")
		}
		t.Logf("%d of %d writes acknowledged, %d snapshots restored", len(w.acknowledged), w.tried, c.totalRestores())
	})
}

func (c *testCluster) totalRestores() int {
	total := 0
	for _, p := range c.peers {
		total += p.machine.restores
	}
	return total
}

// disturb makes one thing happen. A minority at most is down at any time.
func disturb(c *testCluster, w *writer, rng *rand.Rand) {
	w.hold <- struct{}{} // the set of peers changes
	defer func() { <-w.hold }()
	p := c.peers[rng.IntN(len(c.peers))]
	switch rng.IntN(6) {
	case 0, 1: // two sides
		side := map[peer.ID]bool{}
		for _, p := range c.peers {
			side[p.id] = rng.IntN(2) == 0
		}
		for _, a := range c.peers {
			for _, b := range c.peers {
				c.cut[[2]peer.ID{a.id, b.id}] = side[a.id] != side[b.id]
			}
		}
		c.connect()
	case 2: // one direction
		c.cut[[2]peer.ID{p.id, c.peers[rng.IntN(len(c.peers))].id}] = true
		c.connect()
	case 3: // heal
		clear(c.cut)
		c.connect()
	case 4: // restart; the machine may lose its last writes
		wasUp := p.done != nil
		if err := c.stop(p); err != nil {
			c.t.Error(err)
		}
		if rng.IntN(2) == 0 {
			applied := p.machine.Applied()
			p.machine.forget(applied - min(applied, uint64(rng.IntN(50))))
		}
		if !wasUp || rng.IntN(3) > 0 || c.down() > 1 {
			c.start(p)
		}
	case 5:
		if p.done != nil {
			<-p.log.Ready()
			_ = p.log.raft.Load().Snapshot().Error() // refused while entries are replayed
		}
	}
}

func (c *testCluster) down() int {
	n := 0
	for _, p := range c.peers {
		if p.done == nil {
			n++
		}
	}
	return n
}

// writer writes one command after the other, through whoever leads.
type writer struct {
	t            testing.TB
	hold         chan struct{} // full while peers stop and start; a mutex would stop the bubble's time
	tried        int
	acknowledged map[string]bool
	refused      map[string]bool // certainly not logged
	quit, done   chan struct{}
}

func startWriter(c *testCluster) *writer {
	w := &writer{t: c.t, acknowledged: map[string]bool{}, refused: map[string]bool{},
		hold: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for {
			select {
			case <-w.quit:
				return
			case <-time.After(50 * time.Millisecond):
			}
			w.write(c)
		}
	}()
	return w
}

func (w *writer) write(c *testCluster) {
	w.hold <- struct{}{}
	var logs []*Log
	for _, p := range c.peers {
		if p.done != nil && p.log.IsLeader() {
			logs = append(logs, p.log)
		}
	}
	<-w.hold
	for _, log := range logs {
		command := strconv.Itoa(w.tried)
		w.tried++
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_, result, err := log.Propose(ctx, []byte(command))
		cancel()
		switch api.CodeOf(err) {
		case "":
			if result != "did "+command {
				w.t.Errorf("%s returned %v", command, result)
			}
			w.acknowledged[command] = true
		case api.CodeNoLeader, api.CodeUnavailable:
			w.refused[command] = true
		case api.CodeUnknownOutcome:
		default:
			w.t.Errorf("%s: %v", command, err)
		}
	}
}

func (w *writer) stop() {
	close(w.quit)
	<-w.done
}

func (w *writer) check(commands []string) {
	count := map[string]int{}
	for _, command := range commands {
		count[command]++
		if count[command] > 1 {
			w.t.Errorf("%s was applied twice", command)
		}
		if w.refused[command] {
			w.t.Errorf("%s was refused, and applied", command)
		}
	}
	for command := range w.acknowledged {
		if count[command] == 0 {
			w.t.Errorf("%s was acknowledged, and is gone", command)
		}
	}
	if len(w.acknowledged) < w.tried/10 {
		w.t.Errorf("only %d of %d writes were acknowledged", len(w.acknowledged), w.tried)
	}
}

func TestRestartRestoresNothing(t *testing.T) {
	simulate(t, 3, 3, smallLog, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		for i := range 10 {
			c.propose(leader, fmt.Sprint(i))
		}
		c.agree()
		for _, p := range c.peers {
			c.compact(p)
		}
		c.propose(leader, "10")
		before := c.agree()
		c.stopAll()
		c.start(c.peers...)
		after := c.agree() // the machines fail when an entry comes twice
		if fmt.Sprint(before) != fmt.Sprint(after) || c.totalRestores() != 0 {
			t.Fatalf("%d restores, commands %v", c.totalRestores(), after)
		}
		// A new leader's barrier and new commands get through.
		c.propose(c.leader(), "11")
		c.agree()
	})
}

// A machine that lost its last writes gets them from the log; one that lost
// more than the log keeps, from its own newest snapshot.
func TestRestartAfterLostWrites(t *testing.T) {
	simulate(t, 3, 3, smallLog, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		var indexes []uint64
		for i := range 20 {
			indexes = append(indexes, c.propose(leader, fmt.Sprint(i)))
		}
		p := c.follower()
		c.wait(p, indexes[19])
		c.compact(p)
		indexes = append(indexes, c.propose(leader, "20"), c.propose(leader, "21"))
		want := c.agree()
		for i, at := range []uint64{indexes[20], indexes[19], indexes[5], 0} {
			if err := c.stop(p); err != nil {
				t.Fatal(err)
			}
			p.machine.forget(at)
			c.start(p)
			if got := c.agree(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%d: %v", i, got)
			}
		}
		if p.machine.restores != 2 {
			t.Fatalf("%d restores", p.machine.restores)
		}
	})
}

func TestStateWithoutLogIsRefused(t *testing.T) {
	simulate(t, 1, 1, smallLog, func(t *testing.T, c *testCluster) {
		p := c.leader()
		for i := range 20 {
			c.propose(p, fmt.Sprint(i))
		}
		if err := c.stop(p); err != nil {
			t.Fatal(err)
		}
		logs := p.logs
		p.logs = raft.NewInmemStore()
		c.start(p)
		if err := <-p.done; err == nil {
			t.Fatal("a state without its log was accepted")
		}
		p.logs = logs
		c.start(p)
		c.compact(c.leader(p))
		if err := c.stop(p); err != nil {
			t.Fatal(err)
		}
		if err := p.fs.RemoveAll("/data/snapshots"); err != nil {
			t.Fatal(err)
		}
		c.start(p)
		if err := <-p.done; err == nil {
			t.Fatal("a log whose beginning is gone was accepted")
		}
		p.done = nil
	})
}

func TestSnapshotForPeerThatWasAway(t *testing.T) {
	simulate(t, 4, 3, smallLog, func(t *testing.T, c *testCluster) {
		leader := c.leader(c.peers[:3]...)
		c.propose(leader, "a")
		away := c.others(leader)[0]
		c.wait(away, leader.log.Stats().AppliedIndex)
		if err := c.stop(away); err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			c.propose(leader, fmt.Sprint(i))
		}
		for _, p := range c.peers[:3] {
			if p.done != nil {
				c.compact(p)
			}
		}
		// A new peer needs the snapshot as well.
		if err := leader.log.AddLearner(t.Context(), c.peers[3].id); err != nil {
			t.Fatal(err)
		}
		c.start(away)
		c.propose(leader, "b")
		want := c.agree()
		if away.machine.restores != 1 || c.peers[3].machine.restores != 1 {
			t.Fatalf("%d and %d restores", away.machine.restores, c.peers[3].machine.restores)
		}
		// What was received is a snapshot of this peer, too.
		if err := c.stop(away); err != nil {
			t.Fatal(err)
		}
		away.machine.forget(0)
		c.start(away)
		if got := c.agree(); fmt.Sprint(got) != fmt.Sprint(want) || away.machine.restores != 2 {
			t.Fatalf("%d restores, commands %v", away.machine.restores, got)
		}
	})
}

// The conflict of hashicorp/raft#697: a former leader has uncommitted entries
// at and behind the index where the others' snapshot ends. Raft alone sends it
// the same snapshot for ever.
func TestConflictAtSnapshotIndex(t *testing.T) {
	for _, test := range []struct {
		name string
		tail int // uncommitted entries of the former leader
		new  int // entries that the others commit instead
	}{
		{"snapshot ends inside the tail", 30, 10},
		{"snapshot ends with the tail", 10, 8},
		{"snapshot ends behind the tail", 5, 30},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sent atomic.Int32
			simulate(t, 3, 3, func(p *testPeer) {
				p.config.TrailingLogs = 1
				p.wrap = func(inner raft.Transport) raft.Transport {
					return countingTransport{Transport: inner, WithPreVote: inner.(raft.WithPreVote), snapshots: &sent}
				}
			}, func(t *testing.T, c *testCluster) {
				old := c.leader()
				c.propose(old, "before")
				c.agree()
				c.isolate(old, true)
				for i := range test.tail {
					old.log.raft.Load().Apply(encodeEntry([][]byte{fmt.Appendf(nil, "lost %d", i)}), 0)
				}
				next := c.leader(c.others(old)...)
				for i := range test.new {
					c.propose(next, fmt.Sprint(i))
				}
				index := next.log.Stats().AppliedIndex
				for _, p := range c.others(old) {
					c.wait(p, index)
					c.compact(p)
				}
				c.isolate(old, false)
				c.propose(next, "after")
				want := c.agree()
				if len(want) != test.new+2 {
					t.Fatalf("the log holds %v", want)
				}
				if n := sent.Load(); n > 2 {
					t.Errorf("%d snapshots were sent", n)
				}
				// The log of the repaired peer carries it as leader, after a restart.
				if err := c.stop(old); err != nil {
					t.Fatal(err)
				}
				c.start(old)
				c.agree()
				if err := c.leader().log.TransferLeadership(t.Context(), old.id); err != nil {
					t.Fatal(err)
				}
				c.propose(c.leader(), "again")
				c.agree()
			})
		})
	}
}

// A peer that stops in the middle of receiving or restoring a snapshot starts
// again: the snapshot is either whole or gone.
func TestStopBetweenReceiptAndRestore(t *testing.T) {
	simulate(t, 3, 3, smallLog, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		away := c.follower()
		if err := c.stop(away); err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			c.propose(leader, fmt.Sprint(i))
		}
		for _, p := range c.others(away) {
			c.wait(p, leader.log.Stats().AppliedIndex)
			c.compact(p)
		}
		away.machine.failRestore = true
		c.start(away)
		if err := <-away.done; err == nil {
			t.Fatal("run returned nil")
		}
		away.done = nil
		away.machine.failRestore = false
		c.cut[[2]peer.ID{leader.id, away.id}] = true
		c.start(away) // restores without being sent anything
		c.wait(away, leader.log.Stats().SnapshotIndex)
		clear(c.cut)
		c.connect()
		c.propose(c.leader(), "after")
		c.agree()
	})
}

// Two of three peers are gone for good; the last goes on alone, and others
// join it.
func TestForceMembers(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		simulate(t, 3, 3, smallLog, func(t *testing.T, c *testCluster) {
			for i := range 10 {
				c.propose(c.leader(), strconv.Itoa(i))
			}
			want := c.agree()
			survivor := c.follower()
			if compacted {
				c.compact(survivor)
			}
			c.stopAll()
			survivor.machine.forget(3)
			c.build(survivor)
			if err := survivor.log.ForceMembers([]peer.ID{survivor.id}, [][]byte{[]byte("farewell")}); err != nil {
				t.Fatal(err)
			}
			c.start(survivor)
			c.leader()
			want = append(want, "farewell")
			if got := c.agree(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("commands %v", got)
			}
			if got := fmt.Sprint(voters(survivor)); got != fmt.Sprint([]peer.ID{survivor.id}) {
				t.Fatalf("voters %v", got)
			}
			other := c.others(survivor)[0]
			other.logs, other.machine = raft.NewInmemStore(), &fakeMachine{fs: other.fs}
			if err := other.fs.RemoveAll("/data/snapshots"); err != nil {
				t.Fatal(err)
			}
			c.start(other)
			if err := survivor.log.AddVoter(t.Context(), other.id); err != nil {
				t.Fatal(err)
			}
			c.propose(c.leader(), "after")
			c.agree()
		})
	}
	fs := crashableDir(t)
	_, transport := raft.NewInmemTransport("")
	store := raft.NewInmemStore()
	log, err := New(Config{ID: testIDs()[0], Dir: "/data"}, Deps{Machine: &fakeMachine{fs: fs}, Transport: transport, Logs: store, Stable: store, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, log.ForceMembers(testIDs()[:1], nil), api.CodeConflict)
}
