package consensus

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Config says how a peer takes part. Zero fields take their defaults.
type Config struct {
	ID  peer.ID // of this peer; its text is both raft's server id and its address
	Dir string  // folder for snapshots, in Deps.FS; created when missing

	// HeartbeatTimeout is how long a follower hears nothing before it stands
	// for election (300 ms). Raft's timer fires between one and three times
	// this after the last word of a dead leader, of three peers both survivors
	// must have noticed before one can win, and when only the first of them has
	// the whole log, it tries again within two ElectionTimeouts: in 300 trials
	// the first write was accepted after 0.6 s (median), 0.8 s (95 %) and 1.2 s
	// (worst; 1.5 s is the bound), plus two round trips. Lower values elect
	// needlessly: heartbeats wait behind the follower's fsync (see
	// fencedTransport), and on a busy machine with two cores those take 100 to
	// 200 ms at times. A single follower that stalls longer disturbs nobody,
	// for the others refuse its pre-vote.
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long a candidate waits for votes (as
	// HeartbeatTimeout); at least HeartbeatTimeout.
	ElectionTimeout time.Duration
	// LeaderLease is how long a leader goes on without hearing from a majority
	// (as HeartbeatTimeout); at most HeartbeatTimeout.
	LeaderLease time.Duration
	// CommitTimeout bounds how long followers of an otherwise idle leader wait
	// to learn of a commit (50 ms). It costs one message per peer each time.
	CommitTimeout time.Duration

	SnapshotThreshold uint64        // entries after which a snapshot is due (8,192)
	SnapshotInterval  time.Duration // how often that is looked at (30 s, spread up to twice that)
	// TrailingBytes is how much of the log is kept behind a snapshot, so that a
	// peer that was away briefly, or is receiving a snapshot, needs no other; and
	// after so much the next snapshot is due (16 MiB, or a quarter of the last
	// snapshot if that is more).
	TrailingBytes int64
	// TrailingLogs bounds what is kept by the number of entries as well; 0: it
	// does not.
	TrailingLogs uint64

	MaxBatchCommands int // commands in one entry (1,024)
	MaxBatchBytes    int // bytes of commands in one entry, and of one command (512 KiB)
}

const (
	queueLength     = 4096 // proposals that wait before Propose blocks
	entriesInFlight = 4    // entries that wait for their commit before the next is made
	entriesCached   = 16   // entries kept in memory, up to 8 MiB: each is read for every follower and once to be applied
	transferTimeout = time.Second
	failureGrace    = 2 * time.Second // after a failure, for raft's main goroutine to show that it lives
	retainSnapshots = 2
)

func (c Config) withDefaults() Config {
	setDefault(&c.HeartbeatTimeout, 300*time.Millisecond)
	setDefault(&c.ElectionTimeout, c.HeartbeatTimeout)
	setDefault(&c.LeaderLease, c.HeartbeatTimeout)
	setDefault(&c.CommitTimeout, 50*time.Millisecond)
	setDefault(&c.SnapshotThreshold, 8192)
	setDefault(&c.SnapshotInterval, 30*time.Second)
	setDefault(&c.TrailingBytes, 16<<20)
	setDefault(&c.MaxBatchCommands, 1024)
	setDefault(&c.MaxBatchBytes, 512<<10)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate reports every problem at once.
func (c Config) validate() error {
	var problems []error
	if c.ID == "" {
		problems = append(problems, errors.New("ID is empty"))
	}
	if c.Dir == "" {
		problems = append(problems, errors.New("Dir is empty"))
	}
	if c.MaxBatchCommands < 1 || c.MaxBatchCommands > maxEntryCommands {
		problems = append(problems, fmt.Errorf("MaxBatchCommands is %d, it must be 1 to %d", c.MaxBatchCommands, maxEntryCommands))
	}
	if c.MaxBatchBytes < 1 {
		problems = append(problems, fmt.Errorf("MaxBatchBytes is %d, it must be positive", c.MaxBatchBytes))
	}
	if c.TrailingBytes < 1 {
		problems = append(problems, fmt.Errorf("TrailingBytes is %d, it must be positive", c.TrailingBytes))
	}
	if err := raft.ValidateConfig(c.raftConfig()); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

func (c Config) raftConfig() *raft.Config {
	return &raft.Config{
		ProtocolVersion:    raft.ProtocolVersionMax,
		LocalID:            serverID(c.ID),
		HeartbeatTimeout:   c.HeartbeatTimeout,
		ElectionTimeout:    c.ElectionTimeout,
		LeaderLeaseTimeout: c.LeaderLease,
		CommitTimeout:      c.CommitTimeout,
		SnapshotThreshold:  c.SnapshotThreshold,
		SnapshotInterval:   c.SnapshotInterval,
		TrailingLogs:       everyEntry, // until the first snapshot: see backlog
		MaxAppendEntries:   64,
		// The machine keeps its own state; recover restores it when a snapshot
		// is ahead of it.
		NoSnapshotRestoreOnStart: true,
		// A removed peer goes on as a follower that nobody calls; the daemon
		// decides what becomes of it.
		ShutdownOnRemove:  false,
		NoLegacyTelemetry: true,
	}
}

func serverID(id peer.ID) raft.ServerID           { return raft.ServerID(id.String()) }
func serverAddress(id peer.ID) raft.ServerAddress { return raft.ServerAddress(id.String()) }
