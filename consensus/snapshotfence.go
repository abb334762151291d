package consensus

import (
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// snapshotFence stands between the transport and raft, and mends what a leader
// sends that has lost sight of how far this peer is, for instance because the
// peer's answers were lost.
//
//   - A snapshot that this peer's log or snapshots cover already is not
//     installed. Raft would believe in the older index and in the older
//     membership, and panic when it next needs an entry that was cut off.
//   - Entries up to the newest snapshot are taken off a message. Raft would
//     look for them in the log, not find them, and refuse for ever.
//   - The commit index of a message goes as far as what the message proves.
//     Raft takes it for the whole log, whose end may be a deposed leader's.
//
// Terms are raft's business in all cases: a snapshot that is not installed
// reaches it as a heartbeat, whose answer is the snapshot's.
type snapshotFence struct {
	closableTransport
	store *snapshots
	logs  *fencedLogs
	mark  *watermark // what the machine contains
	rpcs  chan raft.RPC
	quit  chan struct{} // closed when nobody waits for answers any more
}

func newSnapshotFence(transport closableTransport, store *snapshots, logs *fencedLogs, mark *watermark) *snapshotFence {
	return &snapshotFence{closableTransport: transport, store: store, logs: logs, mark: mark,
		rpcs: make(chan raft.RPC), quit: make(chan struct{})}
}

// preVoteFence is a snapshotFence whose transport has pre-votes.
type preVoteFence struct {
	*snapshotFence
	raft.WithPreVote
}

// transport is what raft is given.
func (f *snapshotFence) transport() raft.Transport {
	if preVote, ok := f.closableTransport.(raft.WithPreVote); ok {
		return preVoteFence{f, preVote}
	}
	return f
}

// Consumer returns what has passed the fence.
func (f *snapshotFence) Consumer() <-chan raft.RPC { return f.rpcs }

// run passes messages on until quit is closed. The transport has to be closed
// by then, for that ends the streams which are still being read.
func (f *snapshotFence) run() {
	var answering sync.WaitGroup
	defer answering.Wait()
	for {
		var rpc raft.RPC
		select {
		case rpc = <-f.closableTransport.Consumer():
		case <-f.quit:
			return
		}
		switch request := rpc.Command.(type) {
		case *raft.AppendEntriesRequest:
			rpc.Command = f.trim(request)
		case *raft.InstallSnapshotRequest:
			if !f.covers(request.LastLogIndex, request.LastLogTerm) {
				break
			}
			answer := make(chan raft.RPCResponse, 1)
			snapshot := rpc
			rpc = raft.RPC{RespChan: answer, Command: &raft.AppendEntriesRequest{
				RPCHeader: request.RPCHeader, Term: request.Term, Leader: request.Leader}}
			answering.Go(func() { f.answer(snapshot, answer) })
		}
		select {
		case f.rpcs <- rpc:
		case <-f.quit:
			return
		}
	}
}

// newest is how far snapshots reach that raft knows of. One that was received, and
// then could not be read, lies in the store and was not installed: raft needs
// the entries that it stands for.
func (f *snapshotFence) newest() uint64 {
	stored, _ := f.store.last.get()
	applied, _ := f.mark.get()
	return min(stored, applied)
}

// covers says whether this peer has, durably, all that a snapshot stands for.
// What one snapshot contains was committed, so a later one contains it too; and
// logs that agree in an entry agree in all before it.
func (f *snapshotFence) covers(index, term uint64) bool {
	return index <= f.newest() || f.logs.has(index, term)
}

// trim returns what raft shall see of a message with entries. The request
// itself may be shared with its sender, and stays as it is.
func (f *snapshotFence) trim(request *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	newest := f.newest()
	proven := request.PrevLogEntry
	if n := len(request.Entries); n > 0 {
		proven = request.Entries[n-1].Index
	}
	heartbeat := request.PrevLogEntry == 0 && len(request.Entries) == 0
	old := !heartbeat && newest > 0 && request.PrevLogEntry <= newest
	if !old && request.LeaderCommitIndex <= proven {
		return request
	}
	mended := *request
	mended.LeaderCommitIndex = min(request.LeaderCommitIndex, proven)
	if old {
		// The leader has what this snapshot ends with, for that was committed.
		// So there is nothing to compare: with 0 raft does not.
		mended.PrevLogEntry, mended.PrevLogTerm = 0, 0
		for len(mended.Entries) > 0 && mended.Entries[0].Index <= newest {
			mended.Entries = mended.Entries[1:]
		}
	}
	return &mended
}

// answer gives the answer to a heartbeat as that to a snapshot. The stream has
// to be read to its end: the next message follows on the same connection.
func (f *snapshotFence) answer(snapshot raft.RPC, answer <-chan raft.RPCResponse) {
	select {
	case got := <-answer:
		_, _ = io.Copy(io.Discard, snapshot.Reader)
		response := &raft.InstallSnapshotResponse{}
		if reply, ok := got.Response.(*raft.AppendEntriesResponse); ok {
			response.Term, response.Success = reply.Term, reply.Success
		}
		snapshot.Respond(response, got.Error)
	case <-f.quit:
	}
}
