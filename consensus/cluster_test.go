package consensus

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// fakeMachine remembers every command. Its memory stands for its disk: a
// restarted peer gets the same machine, or one that forget has set back.
type fakeMachine struct {
	fs vfs.FS

	mu          sync.Mutex
	state       machineState
	restores    int
	fail        error // of the next Apply
	failRestore bool
	hold        chan struct{} // Apply waits until it is closed; nil: it does not
}

type machineState struct {
	Index    uint64
	Commands []string
	Indexes  []uint64 // of the commands
}

func (m *fakeMachine) Apply(index uint64, commands [][]byte) ([]any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if hold := m.hold; hold != nil {
		m.mu.Unlock()
		<-hold
		m.mu.Lock()
	}
	if m.fail != nil {
		return nil, m.fail
	}
	if index <= m.state.Index {
		return nil, fmt.Errorf("applied %d at %d", index, m.state.Index)
	}
	results := make([]any, len(commands))
	for i, command := range commands {
		m.state.Commands = append(m.state.Commands, string(command))
		m.state.Indexes = append(m.state.Indexes, index)
		results[i] = "did " + string(command)
	}
	m.state.Index = index
	return results, nil
}

func (m *fakeMachine) Applied() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.Index
}

// Checkpoint writes a file and one in a folder, so that both kinds travel.
func (m *fakeMachine) Checkpoint(dir string) error {
	m.mu.Lock()
	data, err := json.Marshal(m.state)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	below := m.fs.PathJoin(dir, "sub")
	return errors.Join(
		m.fs.MkdirAll(below, 0o700),
		writeFile(m.fs, m.fs.PathJoin(dir, "commands"), seal(data)),
		writeFile(m.fs, m.fs.PathJoin(dir, "empty"), nil),
		writeFile(m.fs, m.fs.PathJoin(below, "padding"), bytes.Repeat([]byte("x"), 70_000)),
		syncDir(m.fs, below), syncDir(m.fs, dir))
}

func (m *fakeMachine) Restore(dir string) error {
	if m.failRestore {
		return errors.New("restore fails")
	}
	state, err := m.read(dir)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = state
	m.restores++
	return nil
}

func (m *fakeMachine) Verify(dir string, _ bool) (uint64, error) {
	state, err := m.read(dir)
	return state.Index, err
}

func (m *fakeMachine) read(dir string) (state machineState, err error) {
	data, err := readFile(m.fs, m.fs.PathJoin(dir, "commands"))
	if err != nil {
		return state, err
	}
	if err := errors.Join(checkSeal(data), json.Unmarshal(data, &state)); err != nil {
		return state, err
	}
	padding, err := readFile(m.fs, m.fs.PathJoin(dir, "sub", "padding"))
	if err == nil && !bytes.Equal(padding, bytes.Repeat([]byte("x"), 70_000)) {
		err = errors.New("the padding is another")
	}
	return state, err
}

// forget sets the machine back to what it was at an index, as a crash does
// that loses unsynced writes.
func (m *fakeMachine) forget(index uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for n < len(m.state.Indexes) && m.state.Indexes[n] <= index {
		n++
	}
	m.state.Commands, m.state.Indexes = m.state.Commands[:n:n], m.state.Indexes[:n:n]
	m.state.Index = 0
	if n > 0 {
		m.state.Index = m.state.Indexes[n-1]
	}
}

func (m *fakeMachine) commands() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.state.Commands...)
}

// testPeer is one peer with everything that survives its restarts.
type testPeer struct {
	id      peer.ID
	machine *fakeMachine
	logs    raft.LogStore
	stable  raft.StableStore
	fs      vfs.FS
	lead    func(context.Context)
	wrap    func(raft.Transport) raft.Transport
	config  Config

	transport *raft.InmemTransport
	log       *Log
	cancel    context.CancelFunc
	done      chan error // nil when it does not run
}

type testCluster struct {
	t      testing.TB
	peers  []*testPeer
	logger *slog.Logger
	cut    map[[2]peer.ID]bool // severed directions
}

var testIDs = sync.OnceValue(func() []peer.ID {
	var out []peer.ID
	for range 7 {
		_, public, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			panic(err)
		}
		id, err := peer.IDFromPublicKey(public)
		if err != nil {
			panic(err)
		}
		out = append(out, id)
	}
	return out
})

func testLogger(t testing.TB) *slog.Logger {
	if os.Getenv("CONSENSUS_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// newCluster makes peers that do not run yet; the first voters of them are
// bootstrapped as a cluster.
func newCluster(t testing.TB, peers, voters int, adjust func(*testPeer)) *testCluster {
	c := &testCluster{t: t, logger: testLogger(t), cut: map[[2]peer.ID]bool{}}
	for i := range peers {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("/data", 0o700); err != nil {
			t.Fatal(err)
		}
		p := &testPeer{id: testIDs()[i], machine: &fakeMachine{fs: fs}, logs: raft.NewInmemStore(), fs: fs,
			config: Config{ID: testIDs()[i], Dir: "/data"}}
		var err error
		if p.stable, err = NewStable(fs, "/data/vote.json"); err != nil {
			t.Fatal(err)
		}
		if adjust != nil {
			adjust(p)
		}
		c.peers = append(c.peers, p)
	}
	for _, p := range c.peers[:voters] {
		c.build(p)
		if err := p.log.Bootstrap(testIDs()[:voters]); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// build makes a Log for a peer that does not run.
func (c *testCluster) build(p *testPeer) {
	_, p.transport = raft.NewInmemTransport(serverAddress(p.id))
	transport := raft.Transport(p.transport)
	if p.wrap != nil {
		transport = p.wrap(transport)
	}
	var err error
	p.log, err = New(p.config, Deps{Machine: p.machine, Transport: transport, Logs: p.logs, Stable: p.stable,
		FS: p.fs, Lead: p.lead, Logger: c.logger.With("peer", p.id.ShortString())})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *testCluster) start(peers ...*testPeer) {
	for _, p := range peers {
		c.build(p)
		ctx, cancel := context.WithCancel(context.Background())
		log, done := p.log, make(chan error, 1)
		p.cancel, p.done = cancel, done
		go func() { done <- log.Run(ctx) }()
	}
	c.connect()
}

// connect joins the running peers, but for the directions that are cut.
func (c *testCluster) connect() {
	for _, from := range c.peers {
		for _, to := range c.peers {
			if from == to || from.transport == nil {
				continue
			}
			if to.done == nil || c.cut[[2]peer.ID{from.id, to.id}] {
				from.transport.Disconnect(serverAddress(to.id))
			} else {
				from.transport.Connect(serverAddress(to.id), to.transport)
			}
		}
	}
}

// isolate cuts a peer off from all others, or joins it again.
func (c *testCluster) isolate(p *testPeer, cut bool) {
	for _, other := range c.peers {
		c.cut[[2]peer.ID{p.id, other.id}] = cut
		c.cut[[2]peer.ID{other.id, p.id}] = cut
	}
	c.connect()
}

// stop ends a peer and returns what its Run returned.
func (c *testCluster) stop(p *testPeer) error {
	if p.done == nil {
		return nil
	}
	p.cancel()
	err := <-p.done
	p.done = nil
	c.connect()
	return err
}

func (c *testCluster) stopAll() {
	for _, p := range c.peers {
		if err := c.stop(p); err != nil {
			c.t.Errorf("%s: %v", p.id, err)
		}
	}
}

// leader waits for a leader among the peers that a majority accepts.
func (c *testCluster) leader(among ...*testPeer) *testPeer {
	c.t.Helper()
	if len(among) == 0 {
		among = c.peers
	}
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		for _, p := range among {
			if p.done == nil || !p.log.IsLeader() {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, err := p.log.ReadIndex(ctx)
			cancel()
			if err == nil {
				return p
			}
		}
		tick()
	}
	c.t.Fatal("no leader within a minute")
	return nil
}

// tick lets a moment of the bubble's time pass.
func tick() { <-time.After(10 * time.Millisecond) }

func (c *testCluster) follower() *testPeer {
	leader := c.leader()
	for _, p := range c.peers {
		if p != leader && p.done != nil {
			return p
		}
	}
	c.t.Fatal("no follower")
	return nil
}

func (c *testCluster) propose(p *testPeer, command string) uint64 {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	index, result, err := p.log.Propose(ctx, []byte(command))
	if err != nil {
		c.t.Fatalf("propose %s: %v", command, err)
	}
	if result != "did "+command {
		c.t.Fatalf("propose %s: result %v", command, result)
	}
	return index
}

func (c *testCluster) wait(p *testPeer, index uint64) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := p.log.WaitApplied(ctx, index); err != nil {
		c.t.Fatalf("%s: %v", p.id.ShortString(), err)
	}
}

// agree waits until all running peers have applied what the leader has, and
// checks that they hold the same commands.
func (c *testCluster) agree() []string {
	c.t.Helper()
	leader := c.leader()
	index, err := leader.log.ReadIndex(context.Background())
	if err != nil {
		c.t.Fatal(err)
	}
	want := leader.machine.commands()
	for _, p := range c.peers {
		if p.done == nil {
			continue
		}
		c.wait(p, index)
		if got := p.machine.commands(); fmt.Sprint(got) != fmt.Sprint(want) {
			c.t.Fatalf("%s has\n%v\nthe leader\n%v", p.id.ShortString(), got, want)
		}
	}
	return want
}

func wantCode(t testing.TB, err error, codes ...api.Code) {
	t.Helper()
	for _, code := range codes {
		if api.CodeOf(err) == code {
			return
		}
	}
	t.Fatalf("code %q (%v), want one of %v", api.CodeOf(err), err, codes)
}

func TestThreePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, nil)
		c.start(c.peers...)
		defer c.stopAll()
		leader := c.leader()
		index := c.propose(leader, "a")
		follower := c.follower()
		c.wait(follower, index)
		if got := follower.machine.commands(); fmt.Sprint(got) != "[a]" {
			t.Fatalf("follower has %v", got)
		}
		if id, ok := follower.log.Leader(); !ok || id != leader.id {
			t.Fatalf("follower believes in %v, %v", id, ok)
		}
		_, _, err := follower.log.Propose(t.Context(), []byte("b"))
		wantCode(t, err, api.CodeNoLeader)
		_, err = follower.log.ReadIndex(t.Context())
		wantCode(t, err, api.CodeNoLeader)
		if stats := leader.log.Stats(); stats.State != "Leader" || stats.Leader != leader.id || stats.AppliedIndex < index || stats.LastContact != 0 {
			t.Fatalf("stats %+v", stats)
		}
		if stats := leader.log.Stats(); stats.LoggedBytes == 0 || stats.LoggedBytes != stats.UnkeptBytes || stats.SnapshotBytes != 0 || !leader.log.SnapshotTime().IsZero() {
			t.Errorf("without a snapshot the leader has stats %+v", stats)
		}
		made := time.Now()
		leader.log.snapshot(leader.log.raft.Load(), "a test")
		if stats := leader.log.Stats(); stats.LoggedBytes == 0 || stats.UnkeptBytes != 0 || stats.SnapshotBytes == 0 || !leader.log.SnapshotTime().Equal(made) {
			t.Errorf("with a snapshot of %s the leader has stats %+v", made, stats)
		}
		before := follower.log.Stats()
		if before.State != "Follower" || before.LastContact < 0 || before.LeaderChanges == 0 {
			t.Fatalf("stats %+v", before)
		}
		c.isolate(leader, true)
		c.leader(c.others(leader)...)
		c.isolate(leader, false)
		c.agree()
		if after := follower.log.Stats(); after.LeaderChanges <= before.LeaderChanges || after.Term <= before.Term {
			t.Errorf("after an election the follower has stats %+v, before %+v", after, before)
		}
	})
}
