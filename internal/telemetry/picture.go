package telemetry

import (
	"time"

	"holdfast/api"
)

// Picture is how a peer stands at one moment. What is nil is left out.
type Picture struct {
	Version string
	Commit  string
	Raft    *Raft
	Pinset  *Pinset
	Tracker *Tracker
	Node    *Node
	Repair  *Repair
	Alerts  []string // by name; once each is enough
}

// Raft is the agreement, as this peer takes part in it.
type Raft struct {
	State         string // one of raftStates
	LeaderKnown   bool
	Term          uint64
	LeaderChanges uint64
	LastIndex     uint64
	CommitIndex   uint64
	AppliedIndex  uint64
	Waiting       int           // proposals
	LastContact   time.Duration // negative: never
	SnapshotIndex uint64
	SnapshotBytes int64
	SnapshotTime  time.Time // zero: there is none
	LoggedBytes   int64
	UnkeptBytes   int64 // logged since the last snapshot
}

// Pinset is the pinset and its database.
type Pinset struct {
	Pins, Everywhere, Local uint64
	DiskBytes               uint64
}

// Tracker is how far the peer is with its own pins.
type Tracker struct {
	Pins             map[api.TrackerStatus]uint64
	Queue            uint64
	Parked           int
	Pinned, Unpinned uint64
	Failed           map[api.Code]uint64
}

// Node is the IPFS node.
type Node struct {
	RepoBytes, FreeBytes *uint64 // nil: it does not say
	Connected            int
	Verified             uint64
	Damaged              int
	DamageFound          uint64
	FetchedBlocks        uint64
	FetchedBytes         uint64
	GCRuns, GCFailures   uint64
	GCTime               time.Duration
	FreedBlocks          uint64
	FreedBytes           uint64
}

// Repair is what the peer does, and did, as the leader.
type Repair struct {
	LostPeers     int
	LostReplicas  uint64
	Moved, Failed uint64
}
