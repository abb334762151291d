package daemon

import (
	"holdfast/cluster"
	"holdfast/consensus"
)

// Cluster answers requests to this peer without a network between. It may be
// called once Ready is closed.
func (d *Daemon) Cluster() *cluster.Cluster { return d.cluster }

// StateHash is a hash of this peer's pinset and the log index that it contains.
// Peers at the same index have the same hash. Valid once Ready is closed.
func (d *Daemon) StateHash() (hash string, index uint64, err error) { return d.state.Hash() }

// Log is this peer's part in the agreement. Valid once Ready is closed.
func (d *Daemon) Log() *consensus.Log { return d.log }

// CommandVersion is the version of commands that the cluster has agreed on, as
// far as this peer knows. Valid once Ready is closed.
func (d *Daemon) CommandVersion() uint32 { return d.state.Version() }
