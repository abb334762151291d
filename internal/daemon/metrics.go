package daemon

import (
	"context"
	"strings"
	"time"

	"holdfast/internal/front"
	"holdfast/internal/telemetry"
	"holdfast/rpc"
	"holdfast/state"
)

// measured is the pinset as the log builds it.
type measured struct {
	*state.Pinset
	metrics *telemetry.Metrics
}

// Apply is told of, also when it fails: then the peer ends.
func (m measured) Apply(index uint64, commands [][]byte) ([]any, error) {
	begun := time.Now()
	results, err := m.Pinset.Apply(index, commands)
	m.metrics.Applied(time.Since(begun), len(commands))
	return results, err
}

func (d *Daemon) httpEvents() front.Events {
	return front.Events{Begun: d.metrics.HTTPBegun, Answered: d.metrics.HTTPAnswered, Refused: d.metrics.HTTPRefused}
}

func (d *Daemon) rpcEvents() rpc.Events {
	return rpc.Events{Calls: d.metrics.RPCCalls, Called: d.metrics.RPCCalled,
		Serves: d.metrics.RPCServes, Served: d.metrics.RPCServed, Refused: d.metrics.RPCRefused}
}

// scrapeTime bounds how long a scrape waits for the node to tell its size.
const scrapeTime = 5 * time.Second

// picture is how this peer stands now. All its parts are there by then, and may
// be closing.
func (d *Daemon) picture() telemetry.Picture {
	return telemetry.Picture{Version: d.opts.Version.Version, Commit: d.opts.Version.Commit,
		Raft: d.pictureOfRaft(), Pinset: d.pictureOfPinset(), Tracker: d.pictureOfTracker(), Node: d.pictureOfNode(),
		Repair: d.pictureOfRepair(), Alerts: d.alertNames()}
}

func (d *Daemon) pictureOfRaft() *telemetry.Raft {
	s := d.log.Stats()
	return &telemetry.Raft{State: strings.ToLower(s.State), LeaderKnown: s.Leader != "", Term: s.Term, LeaderChanges: s.LeaderChanges,
		LastIndex: s.LastIndex, CommitIndex: s.CommitIndex, AppliedIndex: s.AppliedIndex, Waiting: s.Queue, LastContact: s.LastContact,
		SnapshotIndex: s.SnapshotIndex, SnapshotBytes: s.SnapshotBytes, SnapshotTime: d.log.SnapshotTime(),
		LoggedBytes: s.LoggedBytes, UnkeptBytes: s.UnkeptBytes}
}

func (d *Daemon) pictureOfPinset() *telemetry.Pinset {
	s := d.state.Stats()
	return &telemetry.Pinset{Pins: s.Pins, Everywhere: s.Everywhere, Local: s.Everywhere + s.Peers[d.ID()], DiskBytes: d.state.DiskBytes()}
}

func (d *Daemon) pictureOfTracker() *telemetry.Tracker {
	s := d.tracker.Stats()
	return &telemetry.Tracker{Pins: s.Pins, Queue: d.tracker.Queued(), Parked: s.Parked, Pinned: s.Pinned, Unpinned: s.Unpinned, Failed: s.Failed}
}

func (d *Daemon) pictureOfNode() *telemetry.Node {
	s := d.node.Stats()
	out := &telemetry.Node{Connected: s.Connected, Verified: s.Verified, Damaged: s.Damaged, DamageFound: s.DamageFound,
		FetchedBlocks: s.FetchedCount, FetchedBytes: s.FetchedBytes, GCRuns: s.Collections, GCFailures: s.CollectionsFailed,
		GCTime: s.CollectionTime, FreedBlocks: s.CollectedBlocks, FreedBytes: s.CollectedBytes}
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTime)
	defer cancel()
	if size, err := d.node.RepoSize(ctx); err == nil {
		out.RepoBytes = &size
	}
	if free, err := d.node.Free(ctx); err == nil {
		out.FreeBytes = &free
	}
	return out
}

func (d *Daemon) pictureOfRepair() *telemetry.Repair {
	s := d.cluster.Repairs()
	return &telemetry.Repair{LostPeers: s.LostPeers, LostReplicas: s.LostReplicas, Moved: s.Moved, Failed: s.Failed}
}

// alertNames are the alerts of this peer.
func (d *Daemon) alertNames() []string {
	var names []string
	for _, alert := range d.cluster.Alerts() {
		if alert.Peer == d.ID() {
			names = append(names, alert.Name)
		}
	}
	return names
}
