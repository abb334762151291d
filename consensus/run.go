package consensus

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// Run takes part in the cluster until ctx ends, or until something happens
// after which this peer must not go on: an entry that cannot be applied, a
// term that cannot be written, a log that cannot be read. That is the error it
// returns. It can be called once.
func (l *Log) Run(ctx context.Context) error {
	if !l.started.CompareAndSwap(false, true) {
		return errors.New("run consensus: it was run before")
	}
	defer close(l.done)
	notify := make(chan bool)
	fence := newSnapshotFence(l.transport, l.store, l.logs, l.mark)
	r, err := l.start(notify, fence.transport())
	if err != nil {
		close(l.stopping)
		l.refuseQueue()
		_ = l.transport.Close() // the error that matters is err
		return fmt.Errorf("start consensus: %w", err)
	}
	r.RegisterObserver(raft.NewObserver(nil, false, l.meet))
	l.raft.Store(r)
	close(l.ready)

	var fencing, batcher, leadership, snapshots sync.WaitGroup
	fencing.Go(fence.run)
	batcher.Go(func() { l.runBatcher(r) })
	snapshots.Go(func() { l.runSnapshots(r) })
	stopped := make(chan struct{})
	leadership.Go(func() { l.runLeadership(context.WithoutCancel(ctx), notify, stopped) })

	select {
	case <-ctx.Done():
	case <-l.failed:
	}
	close(l.stopping)
	l.stop(r, &batcher)
	close(stopped)
	close(fence.quit)
	fencing.Wait()
	snapshots.Wait()
	leadership.Wait()
	select {
	case <-l.failed:
		return fmt.Errorf("run consensus: %w", l.failure)
	default:
		return nil
	}
}

// meet counts leaders. As the filter of an observer it is called by raft's own
// goroutine, and asks for nothing to be sent.
func (l *Log) meet(o *raft.Observation) bool {
	if seen, ok := o.Data.(raft.LeaderObservation); ok && seen.LeaderID != "" {
		l.met.Add(1)
	}
	return false
}

// start brings disk and machine together, then starts raft.
func (l *Log) start(notify chan<- bool, transport raft.Transport) (*raft.Raft, error) {
	if err := l.store.open(); err != nil {
		return nil, err
	}
	machine := &fsm{machine: l.deps.Machine, store: l.store, logs: l.logs, mark: l.mark, fatal: l.fail, logger: l.logger, wrote: l.wrote, trail: l.trail}
	if err := l.recover(machine); err != nil {
		return nil, err
	}
	config := l.raftConfig()
	config.NotifyCh = notify
	return l.newRaft(config, machine, transport)
}

// newRaft runs raft.NewRaft on a goroutine of its own, because the fences
// around the stores end the goroutine on which raft calls them, and because
// raft panics when it cannot write its term.
func (l *Log) newRaft(config *raft.Config, machine raft.FSM, transport raft.Transport) (r *raft.Raft, err error) {
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		stable := fencedStable{StableStore: l.deps.Stable, fatal: l.fail}
		r, err = raft.NewRaft(config, machine, l.logs, stable, l.store, transport)
	}()
	<-finished
	if r != nil || err != nil {
		return r, err
	}
	<-l.failed
	return nil, l.failure
}

// recover makes the machine contain what the newest snapshot does, and checks
// that the log goes on from there. Raft itself takes both for granted. A peer
// that is not sure of its log does not vote with it (INV-LEADER).
func (l *Log) recover(machine *fsm) error {
	newest, passed, damage, err := l.restoreNewest(machine)
	if err != nil {
		return err
	}
	applied := machine.machine.Applied()
	l.mark.advance(applied)
	first, last, err := l.logs.bounds()
	if err != nil {
		return err
	}
	if first > newest.Index+1 {
		return errors.Join(fmt.Errorf("the log in %s begins at %d, but the newest whole snapshot ends at %d: entries between are missing; %s",
			l.config.Dir, first, newest.Index, joinAgain), damage)
	}
	if last = max(last, newest.Index); passed > last {
		return errors.Join(fmt.Errorf("a snapshot in %s up to entry %d is damaged, and log and other snapshots end at %d: this peer has forgotten what it knew; %s",
			l.config.Dir, passed, last, joinAgain), damage)
	}
	if applied > last {
		return errors.Join(fmt.Errorf("the state contains entry %d, but log and snapshots in %s end at %d: they do not belong together; %s",
			applied, l.config.Dir, last, joinAgain), damage)
	}
	return nil
}

// restoreNewest brings the machine to the newest snapshot that is whole. The
// machine is behind it after a crash between the receipt of a snapshot and its
// restore, when the disk lost what the machine had not synced, or when the
// machine was damaged and begins anew. Snapshots that turn out to be damaged are
// passed over; damage says so, and passed is how far they reached.
func (l *Log) restoreNewest(machine *fsm) (newest snapshotMeta, passed uint64, damage, err error) {
	for {
		newest, found, err := l.store.newest()
		if err != nil || !found {
			return newest, passed, damage, err
		}
		err = machine.restore(newest, l.store.path(newest.ID, stateFolder))
		if err == nil {
			return newest, passed, damage, nil
		}
		if !errors.Is(err, errRestore) || vfs.IsNoSpaceError(err) {
			return newest, passed, damage, err
		}
		l.logger.Error("a snapshot cannot be restored, and is passed over", "id", newest.ID, "error", err)
		damage = errors.Join(damage, err)
		passed = max(passed, newest.Index)
		l.store.passOver(newest.ID, err)
		l.store.last.reset() // raft has not seen it yet
	}
}

// stop hands leadership over and shuts raft down. The order matters: futures
// that raft has taken are answered only while it runs.
func (l *Log) stop(r *raft.Raft, batcher *sync.WaitGroup) {
	l.mu.Lock()
	l.closed = true // no further calls into raft
	l.mu.Unlock()
	transferred := l.handOver(r)

	// Raft takes what waits at its door within a moment, as leader or not,
	// unless a failure has ended its main goroutine.
	taken := make(chan struct{})
	go func() {
		batcher.Wait()
		l.handing.wait()
		close(taken)
	}()
	select {
	case <-taken:
	case <-l.failed:
		select {
		case <-taken:
		case <-time.After(failureGrace):
		}
	}
	// What it has taken is answered when it is committed and applied, or when
	// leadership ends, which the lease bounds.
	l.inFlight.wait()
	// Raft forgets an offer of leadership that it has not looked at when it is
	// shut down, and a slow disk can keep it from looking for seconds.
	select {
	case <-transferred:
	case <-l.failed: // then nobody will
	}
	shutdown := r.Shutdown()
	// Cut the connections now: raft waits for messages under way.
	if err := l.transport.Close(); err != nil {
		l.logger.Warn("cannot close the transport", "error", err)
	}
	_ = shutdown.Error() // always nil
	<-taken
	l.inFlight.wait()
}

// handOver gives leadership to another voter, so that the others need not
// notice first that this peer is gone. It returns after a second at most; the
// channel is closed when raft is done with it.
func (l *Log) handOver(r *raft.Raft) <-chan struct{} {
	finished := make(chan struct{})
	if r.State() != raft.Leader || l.hasFailed() {
		close(finished)
		return finished
	}
	giveUp := make(chan struct{})
	defer close(giveUp)
	go func() {
		defer close(finished)
		l.offerLeadership(r, giveUp)
	}()
	timer := time.NewTimer(transferTimeout)
	defer timer.Stop()
	select {
	case <-finished:
	case <-l.failed:
	case <-timer.C:
	}
	return finished
}

// offerLeadership asks the voters one after the other. Raft's own choice is
// the one that is furthest, but may be dead: it does not look.
func (l *Log) offerLeadership(r *raft.Raft, giveUp <-chan struct{}) {
	for _, member := range l.Members() {
		if !member.Voter || member.ID == l.config.ID {
			continue
		}
		select {
		case <-giveUp:
			return
		default:
		}
		err := l.untilFailure(r.LeadershipTransferToServer(serverID(member.ID), serverAddress(member.ID))).Error()
		if err == nil {
			return
		}
		l.logger.Info("a peer did not take the leadership over", "peer", member.ID, "error", err)
	}
}

// untilFailure makes a future end when this peer has failed, for raft's main
// goroutine is gone then. Other futures of raft watch a channel for its end;
// that of a transfer has the same field, and raft leaves it empty.
func (l *Log) untilFailure(future raft.Future) raft.Future {
	if of := reflect.Indirect(reflect.ValueOf(future)); of.Kind() == reflect.Struct {
		if end := of.FieldByName("ShutdownCh"); end.CanSet() && end.Type() == reflect.TypeOf(l.failed) {
			end.Set(reflect.ValueOf(l.failed))
		}
	}
	return future
}

func (l *Log) hasFailed() bool {
	select {
	case <-l.failed:
		return true
	default:
		return false
	}
}
