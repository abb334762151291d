package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// simulate runs a scenario with three voters in a bubble, and stops all peers.
func simulate(t *testing.T, peers, voters int, adjust func(*testPeer), scenario func(*testing.T, *testCluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, peers, voters, adjust)
		c.start(c.peers...)
		defer c.stopAll()
		scenario(t, c)
	})
}

func (c *testCluster) others(of *testPeer) []*testPeer {
	var out []*testPeer
	for _, p := range c.peers {
		if p != of {
			out = append(out, p)
		}
	}
	return out
}

// compact takes a snapshot and cuts the log behind it.
func (c *testCluster) compact(p *testPeer) {
	c.t.Helper()
	if err := p.log.raft.Load().Snapshot().Error(); err != nil {
		c.t.Fatalf("snapshot: %v", err)
	}
}

func smallLog(p *testPeer) { p.config.TrailingLogs = 1 }

func TestLeaderCutOffAcknowledgesNothing(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *testCluster) {
		old := c.leader()
		c.propose(old, "before")
		c.isolate(old, true)
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				_, _, err := old.log.Propose(t.Context(), fmt.Appendf(nil, "lost %d", i))
				wantCode(t, err, api.CodeUnknownOutcome, api.CodeNoLeader)
			})
		}
		group.Wait()
		if _, err := old.log.ReadIndex(t.Context()); err == nil {
			t.Fatal("a leader without a majority answered a read")
		}
		next := c.leader(c.others(old)...)
		c.propose(next, "after")
		c.isolate(old, false)
		if got := fmt.Sprint(c.agree()); got != "[before after]" {
			t.Fatalf("the log holds %s", got)
		}
	})
}

// A caller that gives up before its command became part of an entry learns
// that nothing was logged; later it cannot know.
func TestContextEnds(t *testing.T) {
	slow := &slowLogs{delay: time.Minute}
	simulate(t, 1, 1, func(p *testPeer) {
		slow.LogStore = p.logs
		p.logs = slow
	}, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		slow.on.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		codes := make(chan api.Code, 12)
		for i := range 12 {
			go func() {
				_, _, err := leader.log.Propose(ctx, fmt.Appendf(nil, "%d", i))
				codes <- api.CodeOf(err)
			}()
			synctest.Wait()
		}
		got := map[api.Code]int{}
		for range 12 {
			got[<-codes]++
		}
		// The first is being written, the second waits at raft's door, the
		// others wait for the batcher.
		if got[api.CodeUnknownOutcome] != 2 || got[api.CodeUnavailable] != 10 {
			t.Fatalf("codes %v", got)
		}
		slow.on.Store(false)
		if got := fmt.Sprint(c.agree()); got != "[0 1]" {
			t.Fatalf("the log holds %s", got)
		}
	})
}

func TestBatches(t *testing.T) {
	slow := &slowLogs{delay: 5 * time.Millisecond}
	simulate(t, 1, 1, func(p *testPeer) {
		slow.LogStore = p.logs
		p.logs = slow
	}, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		slow.on.Store(true)
		before := leader.log.Stats().LastIndex
		var group sync.WaitGroup
		for i := range 64 {
			group.Go(func() { c.propose(leader, fmt.Sprint(i)) })
		}
		group.Wait()
		// As many as may be in flight can go out alone before the others have come.
		if entries := leader.log.Stats().LastIndex - before; entries > entriesInFlight+1 {
			t.Fatalf("64 commands took %d entries", entries)
		}
		if got := len(leader.machine.commands()); got != 64 {
			t.Fatalf("%d commands were applied", got)
		}
		// One alone waits for nothing but its write.
		begin := time.Now()
		c.propose(leader, "alone")
		if took := time.Since(begin); took != slow.delay {
			t.Fatalf("a command on an idle peer took %v", took)
		}
	})
}

func TestBatchLimits(t *testing.T) {
	slow := &slowLogs{delay: 5 * time.Millisecond}
	simulate(t, 1, 1, func(p *testPeer) {
		slow.LogStore = p.logs
		p.logs = slow
		p.config.MaxBatchCommands, p.config.MaxBatchBytes = 7, 100
	}, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		_, _, err := leader.log.Propose(t.Context(), make([]byte, 101))
		wantCode(t, err, api.CodeTooLarge)
		slow.on.Store(true)
		var group sync.WaitGroup
		for i := range 100 {
			group.Go(func() { c.propose(leader, fmt.Sprintf("%0*d", 1+i*97%100, i)) })
		}
		group.Wait()
		bytes, count := map[uint64]int{}, map[uint64]int{}
		for i, index := range leader.machine.state.Indexes {
			bytes[index] += len(leader.machine.state.Commands[i])
			count[index]++
		}
		for index := range count {
			if bytes[index] > 100 || count[index] > 7 {
				t.Fatalf("entry %d has %d commands of %d bytes", index, count[index], bytes[index])
			}
		}
	})
}

// Commands that are proposed together keep their order, fill entries, and give
// way to those of others.
func TestProposeAll(t *testing.T) {
	simulate(t, 1, 1, func(p *testPeer) { p.config.MaxBatchCommands, p.config.MaxBatchBytes = 7, 100 }, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		var commands [][]byte
		for i := range 30 {
			commands = append(commands, fmt.Appendf(nil, "%0*d", 1+i*37%40, i))
		}
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() { c.propose(leader, fmt.Sprint("single ", i)) })
		}
		results, err := leader.log.ProposeAll(t.Context(), commands)
		if err != nil || len(results) != len(commands) {
			t.Fatalf("%d results, %v", len(results), err)
		}
		group.Wait()
		for i, result := range results {
			if want := "did " + string(commands[i]); result != want {
				t.Errorf("result %d is %v, want %v", i, result, want)
			}
		}
		next := 0
		bytes, count, bulk := map[uint64]int{}, map[uint64]int{}, map[uint64]bool{}
		for i, index := range leader.machine.state.Indexes {
			got := leader.machine.state.Commands[i]
			bytes[index] += len(got)
			count[index]++
			if next < len(commands) && string(got) == string(commands[next]) {
				next++
				bulk[index] = true
			}
		}
		if next != len(commands) {
			t.Errorf("only the first %d commands are in order", next)
		}
		for index := range count {
			if bytes[index] > 100 || count[index] > 7 {
				t.Errorf("entry %d has %d commands of %d bytes", index, count[index], bytes[index])
			}
		}
		// How many entries the others take is a matter of chance.
		proposals, err := leader.log.cut(commands)
		if err != nil || len(bulk) > len(proposals) {
			t.Errorf("%d commands took %d entries, %d would do: %v", len(commands), len(bulk), len(proposals), err)
		}
		_, err = leader.log.ProposeAll(t.Context(), [][]byte{[]byte("x"), make([]byte, 101)})
		wantCode(t, err, api.CodeTooLarge)
	})
}

func TestLeadFollowsLeadership(t *testing.T) {
	type call struct {
		id   peer.ID
		seen int   // commands that were applied when it began
		end  error // nil while it runs
	}
	var mu sync.Mutex
	var calls []*call // in the order in which they began
	running := func(id peer.ID) (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, call := range calls {
			if call.id == id && call.end == nil {
				n++
			}
		}
		return n
	}
	var hold chan struct{} // made in the bubble
	simulate(t, 3, 3, func(p *testPeer) {
		if hold == nil {
			hold = make(chan struct{})
		}
		p.lead = func(ctx context.Context) {
			now := &call{id: p.id, seen: len(p.machine.commands())}
			mu.Lock()
			calls = append(calls, now)
			mu.Unlock()
			<-ctx.Done()
			<-hold // is slow to let go
			mu.Lock()
			defer mu.Unlock()
			now.end = context.Cause(ctx)
		}
	}, func(t *testing.T, c *testCluster) {
		first := c.leader()
		for i := range 5 {
			c.propose(first, fmt.Sprint(i))
		}
		synctest.Wait()
		early := len(calls)
		c.isolate(first, true)
		second := c.leader(c.others(first)...)
		c.isolate(first, false)
		c.agree()
		// The first leads again while its former call still hangs.
		if err := second.log.TransferLeadership(t.Context(), first.id); err != nil {
			t.Fatal(err)
		}
		if c.leader() != first {
			t.Fatal("the leadership went elsewhere")
		}
		synctest.Wait()
		if n := running(first.id); n != 1 {
			t.Errorf("%d calls at once", n)
		}
		close(hold)
		synctest.Wait()
		if n := running(first.id); n != 1 {
			t.Errorf("%d calls at once after the former returned", n)
		}
		c.stopAll()
		if len(calls) < early+2 {
			t.Errorf("%d calls, %d of them early", len(calls), early)
		}
		for i, call := range calls {
			if !errors.Is(call.end, ErrLeadershipEnded) && !errors.Is(call.end, ErrStopped) {
				t.Errorf("call %d ended with %v", i, call.end)
			}
			if i >= early && call.seen != 5 {
				t.Errorf("call %d saw %d of 5 commands", i, call.seen)
			}
		}
	})
}

// A leader whose machine lacks what earlier leaders committed would decide on
// old grounds: until then it does not call itself one.
func TestNewLeaderDecidesAfterItsBarrier(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *testCluster) {
		old := c.leader()
		next := c.others(old)[0]
		hold := make(chan struct{})
		next.machine.mu.Lock()
		next.machine.hold = hold
		next.machine.mu.Unlock()
		c.propose(old, "committed")
		if err := old.log.TransferLeadership(t.Context(), next.id); err != nil {
			t.Fatal(err)
		}
		for next.log.raft.Load().State() != raft.Leader {
			tick()
		}
		<-time.After(time.Second)
		if next.log.IsLeader() {
			t.Errorf("it decides with %q applied", next.machine.commands())
		}
		close(hold)
		<-time.After(time.Second)
		if !next.log.IsLeader() || len(next.machine.commands()) != 1 {
			t.Errorf("leader: %v, with %q applied", next.log.IsLeader(), next.machine.commands())
		}
	})
}

func TestStopHandsLeadershipOver(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		begin := time.Now()
		if err := c.stop(leader); err != nil {
			t.Fatal(err)
		}
		next := c.leader()
		c.propose(next, "x")
		if took := time.Since(begin); took > leader.config.withDefaults().HeartbeatTimeout {
			t.Fatalf("the next leader took %v", took)
		}
	})
}

// A dead leader is replaced, and writes go on, within the promised time.
func TestFailover(t *testing.T) {
	worst := time.Duration(0)
	for range 20 {
		simulate(t, 3, 3, nil, func(t *testing.T, c *testCluster) {
			old := c.leader()
			c.propose(old, "a")
			c.isolate(old, true)
			begin := time.Now()
			c.propose(c.leader(c.others(old)...), "b")
			worst = max(worst, time.Since(begin))
			c.isolate(old, false)
		})
	}
	t.Logf("slowest of 20: %v", worst)
	if worst > 1500*time.Millisecond {
		t.Fatalf("writes stood still for %v", worst)
	}
}

func TestMembership(t *testing.T) {
	simulate(t, 5, 1, nil, func(t *testing.T, c *testCluster) {
		founder, ctx := c.peers[0], t.Context()
		c.leader(founder)
		wantCode(t, founder.log.Remove(ctx, founder.id), api.CodeConflict)
		wantCode(t, founder.log.Demote(ctx, founder.id), api.CodeConflict)
		c.propose(founder, "a")
		for _, p := range c.peers[1:] {
			if err := founder.log.AddLearner(ctx, p.id); err != nil {
				t.Fatal(err)
			}
		}
		c.agree()
		if got := fmt.Sprint(voters(founder)); got != fmt.Sprint([]peer.ID{founder.id}) {
			t.Fatalf("voters %v", got)
		}
		for _, p := range c.peers[1:3] {
			if err := founder.log.AddVoter(ctx, p.id); err != nil {
				t.Fatal(err)
			}
		}
		if err := founder.log.AddVoter(ctx, c.peers[1].id); err != nil { // again
			t.Fatal(err)
		}
		index := c.propose(founder, "b")
		c.wait(c.peers[4], index)
		if got := voters(c.peers[4]); len(got) != 3 {
			t.Fatalf("voters %v", got)
		}
		wantCode(t, c.peers[4].log.AddVoter(ctx, c.peers[4].id), api.CodeNoLeader)
		if err := founder.log.Demote(ctx, c.peers[2].id); err != nil {
			t.Fatal(err)
		}
		if err := founder.log.Remove(ctx, c.peers[4].id); err != nil {
			t.Fatal(err)
		}
		if got := founder.log.Members(); len(got) != 4 || len(voters(founder)) != 2 {
			t.Fatalf("members %v", got)
		}
		// The leader removes itself; the other voter goes on.
		if err := founder.log.Remove(ctx, founder.id); err != nil {
			t.Fatal(err)
		}
		if got := c.leader(c.peers[1]); len(voters(got)) != 1 {
			t.Fatalf("voters %v", voters(got))
		}
		if err := c.stop(founder); err != nil {
			t.Fatal(err)
		}
		if err := c.stop(c.peers[4]); err != nil {
			t.Fatal(err)
		}
		c.propose(c.peers[1], "c")
		c.agree()
		wantCode(t, c.peers[1].log.TransferLeadership(ctx, c.peers[3].id), api.CodeConflict)
		c.leader(c.peers[1])
	})
}

func voters(p *testPeer) []peer.ID {
	var out []peer.ID
	for _, member := range p.log.Members() {
		if member.Voter {
			out = append(out, member.ID)
		}
	}
	return out
}

// Learners do not vote, so a leader that reaches learners only must not
// answer a read: the voters may have elected another. raft.VerifyLeader does.
func TestReadIndexCountsVotersOnly(t *testing.T) {
	simulate(t, 5, 3, nil, func(t *testing.T, c *testCluster) {
		old := c.leader()
		learners := c.peers[3:]
		for _, p := range learners {
			if err := old.log.AddLearner(t.Context(), p.id); err != nil {
				t.Fatal(err)
			}
		}
		c.agree()
		for _, p := range c.peers[:3] {
			if p != old {
				for _, side := range append([]*testPeer{old}, learners...) {
					c.cut[[2]peer.ID{p.id, side.id}] = true
					c.cut[[2]peer.ID{side.id, p.id}] = true
				}
			}
		}
		c.connect()
		if err := old.log.raft.Load().VerifyLeader().Error(); err != nil {
			t.Logf("raft.VerifyLeader has learned to count voters: %v", err)
		}
		if _, err := old.log.ReadIndex(t.Context()); err == nil {
			t.Fatal("a leader with learners only answered a read")
		}
	})
}

func TestApplyErrorEndsThePeer(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *testCluster) {
		follower := c.follower()
		broken := errors.New("broken")
		follower.machine.fail = broken
		index := c.propose(c.leader(), "a")
		if err := <-follower.done; !errors.Is(err, broken) {
			t.Fatalf("run returned %v", err)
		}
		follower.done = nil
		if follower.machine.Applied() != 0 {
			t.Fatal("the machine went on")
		}
		wantCode(t, follower.log.WaitApplied(t.Context(), index), api.CodeUnavailable)

		leader := c.leader()
		leader.machine.fail = broken
		_, _, err := leader.log.Propose(t.Context(), []byte("b"))
		wantCode(t, err, api.CodeUnknownOutcome)
		if err := <-leader.done; !errors.Is(err, broken) {
			t.Fatalf("run returned %v", err)
		}
		leader.done = nil
		_, _, err = leader.log.Propose(t.Context(), []byte("c"))
		wantCode(t, err, api.CodeNoLeader)

		// Repaired, they come back and catch up.
		follower.machine.fail, leader.machine.fail = nil, nil
		c.start(follower, leader)
		if got := fmt.Sprint(c.agree()); got != "[a b]" {
			t.Fatalf("the log holds %s", got)
		}
	})
}

// An entry that this program cannot read is not skipped.
func TestUnknownEntryEndsThePeer(t *testing.T) {
	simulate(t, 1, 1, nil, func(t *testing.T, c *testCluster) {
		p := c.leader()
		_ = p.log.raft.Load().Apply([]byte{entryVersion + 1, 0}, 0).Error()
		if err := <-p.done; err == nil {
			t.Fatal("run returned nil")
		}
		p.done = nil
	})
}

// A term that cannot be written ends the peer with an error, not with a panic.
func TestStableErrorEndsThePeer(t *testing.T) {
	full := errors.New("disk full")
	failing := map[peer.ID]*failingStable{}
	simulate(t, 3, 3, func(p *testPeer) {
		failing[p.id] = &failingStable{StableStore: p.stable}
		p.stable = failing[p.id]
	}, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		follower := c.follower()
		failing[follower.id].fail(full)
		c.isolate(leader, true) // the next term begins
		if err := <-follower.done; !errors.Is(err, full) {
			t.Fatalf("run returned %v", err)
		}
		follower.done = nil
		c.isolate(leader, false)
		failing[follower.id].fail(nil)
		c.start(follower)
		c.agree()
	})
}

type failingStable struct {
	raft.StableStore
	mu  sync.Mutex
	err error
}

func (f *failingStable) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failingStable) SetUint64(key []byte, value uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return f.err
	}
	return f.StableStore.SetUint64(key, value)
}

func TestNewRefuses(t *testing.T) {
	_, transport := raft.NewInmemTransport("")
	store := raft.NewInmemStore()
	deps := Deps{Machine: &fakeMachine{}, Transport: transport, Logs: store, Stable: store, FS: vfs.NewMem()}
	if _, err := New(Config{ID: testIDs()[0], Dir: "/x"}, Deps{}); err == nil {
		t.Error("no dependencies were accepted")
	}
	for name, config := range map[string]Config{
		"no id":    {Dir: "/x"},
		"no dir":   {ID: testIDs()[0]},
		"lease":    {ID: testIDs()[0], Dir: "/x", HeartbeatTimeout: time.Second, LeaderLease: 2 * time.Second},
		"commands": {ID: testIDs()[0], Dir: "/x", MaxBatchCommands: maxEntryCommands + 1},
		"bytes":    {ID: testIDs()[0], Dir: "/x", MaxBatchBytes: -1},
	} {
		if _, err := New(config, deps); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	log, err := New(Config{ID: testIDs()[0], Dir: "/x"}, deps)
	if err != nil {
		t.Fatal(err)
	}
	// Before Run everything answers, and nothing leads.
	if log.IsLeader() || log.Members() != nil || log.Stats() != (Stats{}) {
		t.Error("a log that does not run has state")
	}
	_, _, err = log.Propose(t.Context(), nil)
	wantCode(t, err, api.CodeNoLeader)
	wantCode(t, log.AddVoter(t.Context(), testIDs()[1]), api.CodeNoLeader)
}
