package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/cluster"
	"holdfast/consensus"
	"holdfast/state"
)

// stoppedPinset is the pinset of a peer that does not run.
type stoppedPinset struct {
	folder   Folder
	defaults Replication
	state    *state.Pinset
	unlock   func() error
	solo     *soloLog // nil until something is to be changed
}

// openStopped opens the pinset in a folder whose lock is held. It makes a new
// one for a peer that has never run.
func openStopped(folder Folder, defaults Replication) (*stoppedPinset, error) {
	pinset, err := state.Open(vfs.Default, filepath.Join(folder.Dir, "state"))
	if err != nil {
		return nil, err
	}
	return &stoppedPinset{folder: folder, defaults: defaults, state: pinset}, nil
}

func (*stoppedPinset) Running() bool { return false }

func (p *stoppedPinset) Close() error {
	var err error
	if p.solo != nil {
		err = p.solo.stop()
	}
	return errors.Join(err, p.state.Close(), p.unlock())
}

func (p *stoppedPinset) Dump(ctx context.Context, begin func(uint64) error, each func(api.Pin) error) ([]string, error) {
	found, err := p.inspect(func(string) {})
	if err != nil {
		return nil, err
	}
	return behind(found), p.state.Dump(begin, func(pin api.Pin) error {
		return errors.Join(ctx.Err(), each(pin))
	})
}

// behind tells of entries that the pinset on the disk does not contain.
func behind(found consensus.Inspection) []string {
	if found.Unapplied == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the peer's log holds %d more entries, which its pinset takes in at the next start if the cluster has agreed on them; start the peer to have them here", found.Unapplied)}
}

// inspect looks at log and snapshots, if the peer ever ran.
func (p *stoppedPinset) inspect(report func(string)) (consensus.Inspection, error) {
	dir := filepath.Join(p.folder.Dir, "raft")
	if _, err := vfs.Default.Stat(dir); err != nil || p.solo != nil {
		return consensus.Inspection{}, nil
	}
	logs, _, closeStores, err := consensus.OpenStores(dir)
	if err != nil {
		return consensus.Inspection{}, err
	}
	found, err := consensus.Inspect(vfs.Default, dir, logs, p.state.Applied(), report)
	return found, errors.Join(err, closeStores())
}

func (p *stoppedPinset) Hash(context.Context) (HashAnswer, error) {
	hash, index, err := p.state.Hash()
	return HashAnswer{Hash: hash, Index: index}, err
}

func (p *stoppedPinset) Check(ctx context.Context) (CheckAnswer, error) {
	answer, err := checkPinset(ctx, p.state)
	if err != nil {
		return answer, err
	}
	found, err := p.inspect(answer.report)
	answer.Notes = behind(found)
	return answer, err
}

func (p *stoppedPinset) Import(ctx context.Context, pins []api.Pin) (ImportAnswer, error) {
	if err := p.lead(ctx); err != nil {
		return ImportAnswer{}, err
	}
	return changeAll(ctx, p.solo.cluster, p.state.Applied(), pins, importLine)
}

func (p *stoppedPinset) Remove(ctx context.Context, pins []api.Pin) (ImportAnswer, error) {
	if err := p.lead(ctx); err != nil {
		return ImportAnswer{}, err
	}
	return changeAll(ctx, p.solo.cluster, p.state.Applied(), pins, removeLine)
}

// lead makes this process the only peer of its cluster, so that a change goes
// the way of all changes: through the log. A peer that has others must not
// change its pinset without them.
func (p *stoppedPinset) lead(ctx context.Context) (err error) {
	if p.solo != nil {
		return nil
	}
	refused := api.Errorf(api.CodeConflict, "the peer in %s belongs to a cluster with others, so it cannot take in pins alone: start it and import again while it runs", p.folder.Dir)
	members, err := p.state.Members()
	if err != nil {
		return err
	}
	for _, member := range members {
		if member.ID != p.folder.Identity.ID {
			return refused
		}
	}
	if !p.folder.Cluster.Founder {
		return refused
	}
	p.solo, err = startSolo(ctx, p.folder, p.state, p.defaults)
	return err
}

// soloLog is the log of a peer that is alone, without a network.
type soloLog struct {
	log     *consensus.Log
	cluster *cluster.Cluster
	cancel  context.CancelFunc
	done    chan error
	close   func() error
}

const soloTimeout = time.Minute // to lead; it takes a second

func startSolo(ctx context.Context, folder Folder, pinset *state.Pinset, defaults Replication) (*soloLog, error) {
	dir, self := filepath.Join(folder.Dir, "raft"), folder.Identity.ID
	logs, stable, closeStores, err := consensus.OpenStores(dir)
	if err != nil {
		return nil, err
	}
	s := &soloLog{done: make(chan error, 1), close: closeStores}
	_, transport := raft.NewInmemTransport(raft.ServerAddress(self.String()))
	s.log, err = consensus.New(consensus.Config{ID: self, Dir: dir},
		consensus.Deps{Machine: pinset, Transport: transport, Logs: logs, Stable: stable, FS: vfs.Default,
			Lead: func(ctx context.Context) { <-ctx.Done() }, Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = s.found(self)
	}
	if err == nil {
		s.cluster, err = cluster.New(cluster.Config{Self: self, DefaultMin: defaults.Min, DefaultMax: defaults.Max},
			cluster.Deps{State: pinset, Log: s.log, Membership: s.log, Peers: soloPeers{self}})
	}
	if err != nil {
		return nil, errors.Join(err, closeStores())
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go func() { s.done <- s.log.Run(run) }()
	if err := s.wait(ctx, self); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// found begins the cluster if it has not run yet.
func (s *soloLog) found(self peer.ID) error {
	has, err := s.log.HasState()
	if err != nil || has {
		return err
	}
	return s.log.Bootstrap([]peer.ID{self})
}

// wait returns when this process leads and the pinset holds all of the log.
func (s *soloLog) wait(ctx context.Context, self peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, soloTimeout)
	defer cancel()
	select {
	case <-s.log.Ready():
	case <-ctx.Done():
		return context.Cause(ctx)
	case err := <-s.done:
		s.done <- err
		return fmt.Errorf("open the log: %w", err)
	}
	for _, member := range s.log.Members() {
		if member.ID != self {
			return api.Errorf(api.CodeConflict, "the log of this peer names other members, so it cannot take in pins alone: start it and import again while it runs")
		}
	}
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		index, err := s.log.ReadIndex(ctx)
		if err == nil {
			return s.log.WaitApplied(ctx, index)
		}
		if !sleep(ctx, pause) {
			return fmt.Errorf("lead the cluster: %w", err)
		}
	}
}

func (s *soloLog) stop() error {
	s.cancel()
	err := <-s.done
	return errors.Join(err, s.close())
}

// soloPeers is the view of a cluster of one. How much space there is does not
// matter: nowhere else could anything go.
type soloPeers struct{ self peer.ID }

func (p soloPeers) View() []api.PeerView {
	return []api.PeerView{{State: api.PeerUp, Report: api.PeerReport{Peer: p.self, FreeBytes: 1, Addresses: []multiaddr.Multiaddr{}}}}
}

func (soloPeers) Changed() <-chan struct{}         { return nil }
func (soloPeers) Confirmed() (time.Duration, bool) { return 0, true }
func (soloPeers) Report(context.Context) error     { return nil }
