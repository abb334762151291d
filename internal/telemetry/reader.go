package telemetry

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/api"
)

// A reading is a family whose values are read at every scrape.
type reading struct {
	name, kind, help string
	labels           []string
	read             func(p Picture, emit emit)
}

type emit func(value float64, labels ...string)

// of reads a number of a part of a peer that may not be there.
func of[Part any](part func(Picture) *Part, value func(*Part) float64) func(Picture, emit) {
	return func(p Picture, emit emit) {
		if at := part(p); at != nil {
			emit(value(at))
		}
	}
}

func raft(value func(*Raft) float64) func(Picture, emit) {
	return of(func(p Picture) *Raft { return p.Raft }, value)
}

func pinset(value func(*Pinset) float64) func(Picture, emit) {
	return of(func(p Picture) *Pinset { return p.Pinset }, value)
}

func tracker(value func(*Tracker) float64) func(Picture, emit) {
	return of(func(p Picture) *Tracker { return p.Tracker }, value)
}

func node(value func(*Node) float64) func(Picture, emit) {
	return of(func(p Picture) *Node { return p.Node }, value)
}

func repair(value func(*Repair) float64) func(Picture, emit) {
	return of(func(p Picture) *Repair { return p.Repair }, value)
}

var readings = slices.Concat(raftReadings, pinReadings, nodeReadings, otherReadings)

var raftReadings = []reading{
	{"holdfast_raft_state", gauge, "1 for what this peer is in the agreement now: follower, candidate, leader or shutdown.", []string{"state"}, readState},
	{"holdfast_raft_leader_known", gauge, "1 if this peer knows a leader.", nil, raft(func(r *Raft) float64 { return oneIf(r.LeaderKnown) })},
	{"holdfast_raft_leader_changes_total", counter, "How often this peer came to know a leader, be it the same again.", nil, raft(func(r *Raft) float64 { return float64(r.LeaderChanges) })},
	{"holdfast_raft_term", gauge, "The present term.", nil, raft(func(r *Raft) float64 { return float64(r.Term) })},
	{"holdfast_raft_last_index", gauge, "Index of the last entry of the log, committed or not.", nil, raft(func(r *Raft) float64 { return float64(r.LastIndex) })},
	{"holdfast_raft_commit_index", gauge, "Index of the last entry that is known to be committed.", nil, raft(func(r *Raft) float64 { return float64(r.CommitIndex) })},
	{"holdfast_raft_applied_index", gauge, "Index of the last entry that the pinset contains.", nil, raft(func(r *Raft) float64 { return float64(r.AppliedIndex) })},
	{"holdfast_raft_proposals_waiting", gauge, "Writes that wait to become part of an entry.", nil, raft(func(r *Raft) float64 { return float64(r.Waiting) })},
	{"holdfast_raft_last_contact_seconds", gauge, "Time since the leader was heard; 0 on the leader, absent if it never was.", nil, readContact},
	{"holdfast_raft_snapshot_index", gauge, "Index of the newest snapshot on the disk; 0 without one.", nil, raft(func(r *Raft) float64 { return float64(r.SnapshotIndex) })},
	{"holdfast_raft_snapshot_size_bytes", gauge, "Size of the newest snapshot.", nil, raft(func(r *Raft) float64 { return float64(r.SnapshotBytes) })},
	{"holdfast_raft_snapshot_timestamp_seconds", gauge, "When the newest snapshot was made, in Unix time; absent without one.", nil, readSnapshotTime},
	{"holdfast_raft_log_bytes_total", counter, "Bytes of the entries that were applied since the start.", nil, raft(func(r *Raft) float64 { return float64(r.LoggedBytes) })},
	{"holdfast_raft_log_since_snapshot_bytes", gauge, "Bytes of the entries that were applied since the start and after the last snapshot.", nil, raft(func(r *Raft) float64 { return float64(r.UnkeptBytes) })},
}

var pinReadings = []reading{
	{"holdfast_pinset_pins", gauge, "Pins of the cluster.", nil, pinset(func(p *Pinset) float64 { return float64(p.Pins) })},
	{"holdfast_pinset_everywhere_pins", gauge, "Those among them that every peer holds.", nil, pinset(func(p *Pinset) float64 { return float64(p.Everywhere) })},
	{"holdfast_pinset_local_pins", gauge, "Those that this peer shall hold.", nil, pinset(func(p *Pinset) float64 { return float64(p.Local) })},
	{"holdfast_pinset_size_bytes", gauge, "What the pinset's database takes on the disk.", nil, pinset(func(p *Pinset) float64 { return float64(p.DiskBytes) })},
	{"holdfast_tracker_pins", gauge, "Pins of this peer by status.", []string{"status"}, readStatuses},
	{"holdfast_tracker_queue_length", gauge, "Pins that wait or are under way on this peer.", nil, tracker(func(t *Tracker) float64 { return float64(t.Queue) })},
	{"holdfast_tracker_parked_fetches", gauge, "Fetches that no block reaches now.", nil, tracker(func(t *Tracker) float64 { return float64(t.Parked) })},
	{"holdfast_tracker_attempts_total", counter, "Attempts to pin or unpin by result: pinned, unpinned or failed.", []string{"result"}, readAttempts},
	{"holdfast_tracker_failures_total", counter, "Failed attempts by reason, which is the code of the error.", []string{"reason"}, readFailures},
	{"holdfast_repair_lost_peers", gauge, "Peers that hold replicas and were away for longer than the grace period, as the leader sees it; 0 elsewhere.", nil, repair(func(r *Repair) float64 { return float64(r.LostPeers) })},
	{"holdfast_repair_lost_replicas", gauge, "Replicas that lost peers hold by the pinset and that wait to be placed elsewhere, as the leader sees it; 0 elsewhere.", nil, repair(func(r *Repair) float64 { return float64(r.LostReplicas) })},
	{"holdfast_repair_pins_total", counter, "Pins that this peer, as the leader, wanted to give other or further replicas, by result: moved or failed.", []string{"result"}, readRepairs},
}

var nodeReadings = []reading{
	{"holdfast_node_repository_bytes", gauge, "What the IPFS repository takes on the disk.", nil, readSize(func(n *Node) *uint64 { return n.RepoBytes })},
	{"holdfast_node_free_bytes", gauge, "What new blocks may take: disk and ipfs.storage_max considered, the reserve subtracted.", nil, readSize(func(n *Node) *uint64 { return n.FreeBytes })},
	{"holdfast_node_connected_nodes", gauge, "IPFS nodes that this peer's is connected with.", nil, node(func(n *Node) float64 { return float64(n.Connected) })},
	{"holdfast_node_verified_blocks_total", counter, "Blocks that were read from the disk and compared with their CIDs.", nil, node(func(n *Node) float64 { return float64(n.Verified) })},
	{"holdfast_node_damaged_blocks", gauge, "Blocks on the disk that are damaged and were not fetched again yet.", nil, node(func(n *Node) float64 { return float64(n.Damaged) })},
	{"holdfast_node_damage_found_total", counter, "Blocks that turned out to be damaged.", nil, node(func(n *Node) float64 { return float64(n.DamageFound) })},
	{"holdfast_node_fetched_blocks_total", counter, "Blocks that came from other nodes for pins.", nil, node(func(n *Node) float64 { return float64(n.FetchedBlocks) })},
	{"holdfast_node_fetched_bytes_total", counter, "Bytes of these blocks.", nil, node(func(n *Node) float64 { return float64(n.FetchedBytes) })},
	{"holdfast_node_gc_runs_total", counter, "Collections of garbage.", nil, node(func(n *Node) float64 { return float64(n.GCRuns) })},
	{"holdfast_node_gc_failures_total", counter, "Collections of garbage that failed.", nil, node(func(n *Node) float64 { return float64(n.GCFailures) })},
	{"holdfast_node_gc_duration_seconds_total", counter, "How long collections took together.", nil, node(func(n *Node) float64 { return n.GCTime.Seconds() })},
	{"holdfast_node_gc_freed_blocks_total", counter, "Blocks that collections removed.", nil, node(func(n *Node) float64 { return float64(n.FreedBlocks) })},
	{"holdfast_node_gc_freed_bytes_total", counter, "Bytes of these blocks.", nil, node(func(n *Node) float64 { return float64(n.FreedBytes) })},
}

var otherReadings = []reading{
	{"holdfast_build_info", gauge, "1, with the version of the program.", []string{"version", "commit"}, func(p Picture, emit emit) { emit(1, p.Version, p.Commit) }},
	{"holdfast_alert", gauge, "1 for every alert of this peer, by name; absent if there is none.", []string{"name"}, func(p Picture, emit emit) {
		names := slices.Clone(p.Alerts)
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			emit(1, name)
		}
	}},
}

var raftStates = []string{"follower", "candidate", "leader", "shutdown"}

func readState(p Picture, emit emit) {
	if p.Raft == nil {
		return
	}
	for _, state := range raftStates {
		emit(oneIf(state == p.Raft.State), state)
	}
}

func readContact(p Picture, emit emit) {
	if p.Raft != nil && p.Raft.LastContact >= 0 {
		emit(p.Raft.LastContact.Seconds())
	}
}

func readSnapshotTime(p Picture, emit emit) {
	if p.Raft != nil && !p.Raft.SnapshotTime.IsZero() {
		emit(float64(p.Raft.SnapshotTime.UnixMilli()) / 1000)
	}
}

func readStatuses(p Picture, emit emit) {
	if p.Tracker != nil {
		for status, n := range p.Tracker.Pins {
			emit(float64(n), status.String())
		}
	}
}

func readAttempts(p Picture, emit emit) {
	if p.Tracker == nil {
		return
	}
	var failed uint64
	for _, n := range p.Tracker.Failed {
		failed += n
	}
	emit(float64(p.Tracker.Pinned), "pinned")
	emit(float64(p.Tracker.Unpinned), "unpinned")
	emit(float64(failed), "failed")
}

func readFailures(p Picture, emit emit) {
	if p.Tracker == nil {
		return
	}
	sums := map[api.Code]uint64{}
	for code, n := range p.Tracker.Failed {
		sums[known(code)] += n
	}
	for _, code := range api.Codes() {
		emit(float64(sums[code]), string(code))
	}
}

func readRepairs(p Picture, emit emit) {
	if p.Repair != nil {
		emit(float64(p.Repair.Moved), "moved")
		emit(float64(p.Repair.Failed), "failed")
	}
}

func readSize(size func(*Node) *uint64) func(Picture, emit) {
	return func(p Picture, emit emit) {
		if p.Node == nil {
			return
		}
		if n := size(p.Node); n != nil {
			emit(float64(*n))
		}
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// known is a code of ours. What another peer made up must not become a label.
func known(code api.Code) api.Code {
	if slices.Contains(api.Codes(), code) {
		return code
	}
	return api.CodeInternal
}

// reader is the collector of all readings.
type reader struct {
	metrics *Metrics
	descs   []*prometheus.Desc // of readings
}

func newReader(m *Metrics) *reader {
	r := &reader{metrics: m}
	for _, reading := range readings {
		m.add(reading.name, reading.kind, reading.help, reading.labels)
		r.descs = append(r.descs, prometheus.NewDesc(reading.name, reading.help, reading.labels, nil))
	}
	return r
}

// Describe is for the registry.
func (r *reader) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range r.descs {
		out <- desc
	}
}

// Collect looks at the peer.
func (r *reader) Collect(out chan<- prometheus.Metric) {
	source := r.metrics.source.Load()
	if source == nil {
		return
	}
	picture := (*source)()
	for i, reading := range readings {
		kind := prometheus.GaugeValue
		if reading.kind == counter {
			kind = prometheus.CounterValue
		}
		reading.read(picture, func(value float64, labels ...string) {
			out <- prometheus.MustNewConstMetric(r.descs[i], kind, value, labels...)
		})
	}
}
