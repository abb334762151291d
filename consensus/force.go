package consensus

import (
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// ForceMembers rewrites the membership on the disk of a peer that does not
// run: ids become the voters. It is for a cluster that has lost its majority
// for good. Every entry in this peer's log counts as committed, also those that
// never were, and no other former member may go on with its own state: it has
// to join again. Commands, if any, become the last entry: they are applied with
// the change, or not at all. Errors: conflict, this peer never belonged to a
// cluster.
func (l *Log) ForceMembers(ids []peer.ID, commands [][]byte) error {
	has, err := l.HasState()
	if err != nil {
		return err
	}
	if !has {
		return api.Errorf(api.CodeConflict, "this peer has no state in %s to go on from", l.config.Dir)
	}
	if err := l.store.open(); err != nil {
		return err
	}
	var failure error
	machine := &fsm{machine: l.deps.Machine, store: l.store, logs: l.logs, mark: l.mark, logger: l.logger,
		fatal: func(err error) { failure = err }}
	if err := l.recover(machine); err != nil {
		return fmt.Errorf("force the membership: %w", err)
	}
	if len(commands) > 0 {
		if err := l.appendForced(commands); err != nil {
			return fmt.Errorf("force the membership: %w", err)
		}
	}
	// The log is read without its fence, which would end this goroutine.
	err = raft.RecoverCluster(l.raftConfig(), machine, l.deps.Logs, l.deps.Stable, l.store, l.transport, votersOf(ids))
	if failure != nil {
		err = failure // what raft makes of it says less
	}
	if err != nil {
		return fmt.Errorf("force the membership: %w", err)
	}
	return nil
}

// appendForced adds an entry to the log, as a leader of the present term.
func (l *Log) appendForced(commands [][]byte) error {
	newest, _, err := l.store.newest()
	if err != nil {
		return err
	}
	_, last, err := l.logs.bounds()
	if err != nil {
		return err
	}
	term, err := l.deps.Stable.GetUint64([]byte(keyCurrentTerm))
	if err != nil {
		return fmt.Errorf("read current term: %w", err)
	}
	return l.deps.Logs.StoreLog(&raft.Log{Index: max(last, newest.Index) + 1, Term: term, Type: raft.LogCommand, Data: encodeEntry(commands)})
}

func votersOf(ids []peer.ID) raft.Configuration {
	var out raft.Configuration
	for _, id := range ids {
		out.Servers = append(out.Servers, raft.Server{ID: serverID(id), Address: serverAddress(id), Suffrage: raft.Voter})
	}
	return out
}
