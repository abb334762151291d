package consensus

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/internal/faultfs"
)

// sendAsLeader gives a peer a message as if the leader had sent it.
func (c *testCluster) sendAsLeader(leader, to *testPeer, request *raft.AppendEntriesRequest) raft.AppendEntriesResponse {
	c.t.Helper()
	request.RPCHeader = raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(leader.id.String()), Addr: []byte(leader.id.String())}
	var response raft.AppendEntriesResponse
	if err := leader.transport.AppendEntries(serverID(to.id), serverAddress(to.id), request, &response); err != nil {
		c.t.Fatal(err)
	}
	return response
}

// sendSnapshot gives a peer one of the leader's snapshots, in some term.
func (c *testCluster) sendSnapshot(leader, to *testPeer, meta *raft.SnapshotMeta, term uint64) raft.InstallSnapshotResponse {
	c.t.Helper()
	_, stream, err := leader.log.store.Open(meta.ID)
	if err != nil {
		c.t.Fatal(err)
	}
	defer stream.Close()
	request := &raft.InstallSnapshotRequest{
		RPCHeader:       raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(leader.id.String()), Addr: []byte(leader.id.String())},
		SnapshotVersion: meta.Version, Term: term, LastLogIndex: meta.Index, LastLogTerm: meta.Term, Size: meta.Size,
		Configuration: raft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex,
	}
	var response raft.InstallSnapshotResponse
	if err := leader.transport.InstallSnapshot(serverID(to.id), serverAddress(to.id), request, &response, stream); err != nil {
		c.t.Fatal(err)
	}
	if rest, _ := io.Copy(io.Discard, stream); rest != 0 {
		c.t.Errorf("%d bytes of the snapshot were left in the connection", rest)
	}
	return response
}

// snapshotted writes some commands and takes a snapshot of them everywhere.
func (c *testCluster) snapshotted(leader *testPeer, from, to int) *raft.SnapshotMeta {
	c.t.Helper()
	for i := from; i < to; i++ {
		c.propose(leader, fmt.Sprint(i))
	}
	c.agree()
	for _, p := range c.peers {
		if p.done != nil {
			c.compact(p)
		}
	}
	metas, err := leader.log.store.List()
	if err != nil {
		c.t.Fatal(err)
	}
	return metas[0]
}

// A leader that missed a follower's answers sends a snapshot which is older
// than the follower's own. Raft alone goes back to it, and panics at the next
// commit: the entries between are no longer in the log.
func TestOlderSnapshotIsNotInstalled(t *testing.T) {
	simulate(t, 3, 3, smallLog, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		older := c.snapshotted(leader, 0, 10)
		newer := c.snapshotted(leader, 10, 20)
		follower := c.follower()
		term := leader.log.Stats().Term
		for _, meta := range []*raft.SnapshotMeta{older, newer} {
			if got := c.sendSnapshot(leader, follower, meta, term); !got.Success || got.Term != term {
				t.Errorf("snapshot up to %d: %+v", meta.Index, got)
			}
		}
		// A deposed leader hears that it is one; a new leader is accepted.
		if got := c.sendSnapshot(leader, follower, older, term-1); got.Success || got.Term != term {
			t.Errorf("snapshot of an old term: %+v", got)
		}
		if got := c.sendSnapshot(leader, follower, older, term+1); !got.Success || got.Term != term+1 {
			t.Errorf("snapshot of a new term: %+v", got)
		}
		if got := follower.log.Stats().Term; got < term+1 {
			t.Errorf("the follower stayed in term %d", got)
		}
		for leader.log.Stats().Term <= term { // it is about to hear of the new term, too
			tick()
		}
		c.propose(c.leader(), "after")
		c.agree()
		if follower.machine.restores != 0 || follower.log.Stats().SnapshotIndex < newer.Index {
			t.Errorf("%d restores, snapshot up to %d", follower.machine.restores, follower.log.Stats().SnapshotIndex)
		}
	})
}

// A snapshot that the log covers does not undo later changes of the
// membership. Raft alone would count the votes of an older one.
func TestSnapshotInsideTheLogKeepsTheMembership(t *testing.T) {
	simulate(t, 4, 3, nil, func(t *testing.T, c *testCluster) {
		leader := c.leader(c.peers[:3]...)
		c.propose(leader, "a")
		c.wait(leader, leader.log.Stats().LastIndex)
		c.compact(leader)
		metas, err := leader.log.store.List()
		if err != nil {
			t.Fatal(err)
		}
		if err := leader.log.AddVoter(t.Context(), c.peers[3].id); err != nil {
			t.Fatal(err)
		}
		c.agree()
		follower := c.others(leader)[0]
		if got := c.sendSnapshot(leader, follower, metas[0], leader.log.Stats().Term); !got.Success {
			t.Errorf("answer %+v", got)
		}
		if !slices.Contains(follower.log.Members(), api.RaftMember{ID: c.peers[3].id, Voter: true}) {
			t.Errorf("the follower forgot the fourth voter: %v", follower.log.Members())
		}
		if follower.log.Stats().SnapshotIndex != 0 {
			t.Error("the snapshot was installed")
		}
	})
}

// Entries that the follower has cut off, because its snapshot contains them,
// are no reason to refuse those that follow.
func TestEntriesBehindTheSnapshot(t *testing.T) {
	simulate(t, 3, 3, smallLog, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		c.snapshotted(leader, 0, 10)
		follower := c.follower()
		newest := c.snapshotted(leader, 10, 30)
		c.cut[[2]peer.ID{follower.id, leader.id}] = true // nobody else is to become leader meanwhile
		term, last := leader.log.Stats().Term, follower.log.Stats().LastIndex
		for name, request := range map[string]*raft.AppendEntriesRequest{
			"all cut off":        {PrevLogEntry: newest.Index - 15, PrevLogTerm: term, Entries: entries(newest.Index-14, newest.Index-5, term)},
			"from the beginning": {Entries: entries(1, 5, 1)},
			"no entries":         {PrevLogEntry: newest.Index - 10, PrevLogTerm: term},
			"some cut off":       {PrevLogEntry: newest.Index - 15, PrevLogTerm: term, Entries: entries(newest.Index-14, last, term)},
		} {
			request.Term = term
			if got := c.sendAsLeader(leader, follower, request); !got.Success || got.LastLog < last {
				t.Errorf("%s: %+v", name, got)
			}
		}
		clear(c.cut)
		c.connect()
		c.propose(c.leader(), "after")
		c.agree()
	})
}

// A message that ends before the follower's log does proves nothing about its
// end, which may be that of a deposed leader. Raft alone would commit it.
func TestCommitGoesAsFarAsTheProof(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *testCluster) {
		old := c.leader()
		c.propose(old, "before")
		c.agree()
		common := old.log.Stats()
		c.isolate(old, true)
		for i := range 5 {
			old.log.raft.Load().Apply(encodeEntry([][]byte{fmt.Appendf(nil, "lost %d", i)}), 0)
		}
		next := c.leader(c.others(old)...)
		for i := range 10 {
			c.propose(next, fmt.Sprint(i))
		}
		// Only this message gets through: the answer to an earlier, longer one
		// was lost, say.
		c.cut[[2]peer.ID{next.id, old.id}] = false
		next.transport.Connect(serverAddress(old.id), old.transport)
		got := c.sendAsLeader(next, old, &raft.AppendEntriesRequest{Term: next.log.Stats().Term,
			PrevLogEntry: common.LastIndex, PrevLogTerm: common.Term, LeaderCommitIndex: next.log.Stats().CommitIndex})
		if !got.Success {
			t.Errorf("answer %+v", got)
		}
		clear(c.cut)
		c.connect()
		want := c.agree()
		if len(want) != 11 {
			t.Errorf("applied: %v", want)
		}
	})
}

// A snapshot of our own that was begun before a newer one came is dropped.
func TestOwnSnapshotIsOvertaken(t *testing.T) {
	simulate(t, 3, 3, smallLog, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		newest := c.snapshotted(leader, 0, 10)
		store := leader.log.store
		late, err := store.Create(raft.SnapshotVersionMax, newest.Index-1, newest.Term, newest.Configuration, newest.ConfigurationIndex, nil)
		if err != nil {
			t.Fatal(err)
		}
		dir, err := store.temporary()
		if err != nil {
			t.Fatal(err)
		}
		if err := leader.machine.Checkpoint(store.fs.PathJoin(dir, stateFolder)); err != nil {
			t.Fatal(err)
		}
		if err := late.(*sink).adopt(dir, newest.Index-1); err != nil {
			t.Fatal(err)
		}
		if err := late.Close(); err == nil {
			t.Error("an older snapshot took its place")
		}
		if metas, err := store.List(); err != nil || len(metas) != 1 || metas[0].Index != newest.Index {
			t.Errorf("snapshots %v, %v", metas, err)
		}
	})
}

// A snapshot that was received and then could not be read is not installed. The
// peer must not take it for something that it has: raft would append what comes
// after it, miss the entries between, and panic.
func TestSnapshotThatCannotBeReadIsNotThere(t *testing.T) {
	disks := map[*testPeer]*faultfs.FS{}
	simulate(t, 3, 3, func(p *testPeer) {
		smallLog(p)
		disks[p] = faultfs.New(p.fs)
		p.fs = disks[p]
	}, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		c.snapshotted(leader, 0, 10)
		follower := c.follower()
		c.isolate(follower, true)
		for i := 10; i < 30; i++ {
			c.propose(leader, fmt.Sprint(i))
		}
		c.compact(leader)
		before, _ := follower.log.store.last.get()
		disks[follower].Set(faultfs.Plan{Kind: faultfs.EIO, Match: func(path string) bool { return strings.HasSuffix(path, metaFile) }, Count: -1})
		c.isolate(follower, false)
		for now := before; now == before; now, _ = follower.log.store.last.get() {
			tick()
		}
		<-time.After(time.Second)
		disks[follower].Heal()
		for i := 30; i < 50; i++ {
			c.propose(leader, fmt.Sprint(i))
		}
		c.agree()
	})
}
