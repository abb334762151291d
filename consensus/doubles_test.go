package consensus

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// slowLogs takes its time for every write, as a disk does.
type slowLogs struct {
	raft.LogStore
	delay time.Duration
	on    atomic.Bool
}

func (s *slowLogs) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

func (s *slowLogs) StoreLogs(logs []*raft.Log) error {
	if s.on.Load() {
		<-time.After(s.delay)
	}
	return s.LogStore.StoreLogs(logs)
}

// countingTransport counts the snapshots that arrive.
type countingTransport struct {
	raft.Transport
	raft.WithPreVote
	snapshots *atomic.Int32
}

func (c countingTransport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	err := c.Transport.InstallSnapshot(id, target, args, resp, data)
	if err == nil {
		c.snapshots.Add(1)
	}
	return err
}

func (c countingTransport) Close() error { return c.Transport.(raft.WithClose).Close() }
