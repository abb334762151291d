package consensus

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// onDisk gives a peer the stores of production.
func onDisk(t *testing.T) (adjust func(*testPeer), reopen func(*testPeer)) {
	closers := map[*testPeer]func() error{}
	folders := map[*testPeer]string{}
	open := func(p *testPeer) {
		t.Helper()
		logs, stable, closeStores, err := OpenStores(filepath.Join(folders[p], "raft"))
		if err != nil {
			t.Fatal(err)
		}
		p.logs, p.stable, closers[p] = logs, stable, closeStores
	}
	t.Cleanup(func() {
		for _, closeStores := range closers {
			if err := closeStores(); err != nil {
				t.Error(err)
			}
		}
	})
	adjust = func(p *testPeer) {
		folders[p] = t.TempDir()
		p.fs, p.machine.fs, p.config.Dir = vfs.Default, vfs.Default, folders[p]
		p.config.TrailingLogs, p.config.HeartbeatTimeout = 1, 100*time.Millisecond
		open(p)
	}
	reopen = func(p *testPeer) {
		t.Helper()
		if err := closers[p](); err != nil {
			t.Fatal(err)
		}
		open(p)
	}
	return adjust, reopen
}

func TestOneDiskPeerComesBack(t *testing.T) {
	adjust, reopen := onDisk(t)
	c := newCluster(t, 1, 1, adjust)
	defer c.stopAll()
	p := c.peers[0]
	c.start(p)
	for i := range 20 {
		c.propose(c.leader(), fmt.Sprint(i))
	}
	c.compact(p)
	c.propose(p, "20")
	for _, forget := range []uint64{1000, 10, 0} { // what the machine still has
		if err := c.stop(p); err != nil {
			t.Fatal(err)
		}
		reopen(p)
		c.build(p)
		if has, err := p.log.HasState(); err != nil || !has {
			t.Fatalf("has state: %v, %v", has, err)
		}
		if err := p.log.Bootstrap(testIDs()[:1]); err == nil {
			t.Fatal("bootstrapped twice")
		}
		p.machine.forget(forget)
		c.start(p)
		c.leader()
		if got := c.agree(); len(got) != 21 {
			t.Fatalf("%d commands", len(got))
		}
	}
}

// The whole of a peer's worst day on the stores of production: it led, was cut
// off with entries of its own, and the others went on and compacted their logs.
func TestDiskPeersAfterConflict(t *testing.T) {
	adjust, reopen := onDisk(t)
	var sent atomic.Int32
	c := newCluster(t, 3, 3, func(p *testPeer) {
		adjust(p)
		p.wrap = func(inner raft.Transport) raft.Transport {
			return countingTransport{Transport: inner, WithPreVote: inner.(raft.WithPreVote), snapshots: &sent}
		}
	})
	c.start(c.peers...)
	defer c.stopAll()
	old := c.leader()
	c.propose(old, "before")
	c.agree()
	c.isolate(old, true)
	for i := range 30 {
		old.log.raft.Load().Apply(encodeEntry([][]byte{fmt.Appendf(nil, "lost %d", i)}), 0)
	}
	next := c.leader(c.others(old)...)
	for i := range 10 {
		c.propose(next, fmt.Sprint(i))
	}
	index := next.log.Stats().AppliedIndex
	for _, p := range c.others(old) {
		c.wait(p, index)
		c.compact(p)
	}
	c.isolate(old, false)
	c.propose(c.leader(), "after")
	c.agree()
	if n := sent.Load(); n > 2 {
		t.Errorf("%d snapshots were sent", n)
	}
	for _, p := range c.peers {
		if err := c.stop(p); err != nil {
			t.Fatal(err)
		}
		reopen(p)
		p.machine.forget(0)
		c.start(p)
		c.propose(c.leader(), "again")
		if got := c.agree(); len(got) < 12 {
			t.Fatalf("commands %v", got)
		}
	}
}

func TestInterruptedBootstrap(t *testing.T) {
	fs := crashableDir(t)
	stable, err := NewStable(fs, "/data/vote")
	if err != nil {
		t.Fatal(err)
	}
	if err := stable.SetUint64([]byte(keyCurrentTerm), 1); err != nil { // and no log
		t.Fatal(err)
	}
	logs := raft.NewInmemStore()
	_, transport := raft.NewInmemTransport("")
	log, err := New(Config{ID: testIDs()[0], Dir: "/data"}, Deps{Machine: &fakeMachine{fs: fs}, Transport: transport, Logs: logs, Stable: stable, FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	if has, err := log.HasState(); err != nil || has {
		t.Fatalf("has state: %v, %v", has, err)
	}
	if err := log.Bootstrap(testIDs()[:1]); err != nil {
		t.Fatal(err)
	}
	if has, err := log.HasState(); err != nil || !has {
		t.Fatalf("has state: %v, %v", has, err)
	}
}

// A log whose vote, or list of segments, is gone is refused and stays as it is.
func TestLogWithoutVoteOrSegments(t *testing.T) {
	for _, name := range []string{"vote.json", "log/wal-meta.db"} {
		dir := t.TempDir()
		logs, stable, closeStores, err := OpenStores(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := stable.SetUint64([]byte(keyCurrentTerm), 1); err != nil {
			t.Fatal(err)
		}
		if err := logs.StoreLogs([]*raft.Log{{Index: 1, Term: 1, Data: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		if err := closeStores(); err != nil {
			t.Fatal(err)
		}
		lost := filepath.Join(t.TempDir(), "lost")
		if err := os.Rename(filepath.Join(dir, name), lost); err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := OpenStores(dir); err == nil || !strings.Contains(err.Error(), filepath.Base(name)) || !strings.Contains(err.Error(), joinAgain) {
			t.Errorf("without %s: %v", name, err)
		}
		if err := os.Rename(lost, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		logs, _, closeStores, err = OpenStores(dir)
		if err != nil {
			t.Fatal(err)
		}
		if last, err := logs.LastIndex(); err != nil || last != 1 {
			t.Errorf("%s is back: the log ends at %d, %v", name, last, err)
		}
		if err := closeStores(); err != nil {
			t.Fatal(err)
		}
	}
}
