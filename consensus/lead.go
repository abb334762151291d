package consensus

import (
	"context"
	"sync/atomic"
	"time"
)

// leadership is one time of leading.
type leadership struct {
	ended <-chan struct{}
	// decides: the machine contains all that earlier leaders committed.
	decides atomic.Bool
}

const barrierRetry = 20 * time.Millisecond

// runLeadership turns raft's notices into calls of Deps.Lead, one after the
// other. It takes every notice until stopped, for raft blocks until it does.
func (l *Log) runLeadership(base context.Context, notify <-chan bool, stopped <-chan struct{}) {
	end := func(error) {} // of the current leadership
	last := make(chan struct{})
	close(last)
	stopping := l.stopping
	for {
		select {
		case leader := <-notify:
			end(ErrLeadershipEnded)
			if !leader || stopping == nil {
				continue
			}
			ctx, cancel := context.WithCancelCause(base)
			before, finished := last, make(chan struct{})
			end, last = cancel, finished
			current := &leadership{ended: ctx.Done()}
			l.leading.Store(current)
			go func() {
				defer close(finished)
				l.reachBarrier(ctx, current)
				<-before
				if l.deps.Lead != nil && ctx.Err() == nil {
					l.deps.Lead(ctx)
				}
			}()
		case <-stopping:
			stopping = nil
			end(ErrStopped)
		case <-stopped:
			end(ErrStopped)
			<-last
			return
		}
	}
}

// reachBarrier lets this leadership decide, once the machine contains all that
// earlier leaders committed. Its barrier is an entry of our own, because raft
// shows its own barriers to no machine, and WaitApplied counts what the machine
// is shown.
func (l *Log) reachBarrier(ctx context.Context, current *leadership) {
	for {
		if _, err := l.ReadIndex(ctx); err == nil {
			current.decides.Store(true)
			return
		}
		// While leadership is being handed over, raft refuses; the transfer may
		// fail and leave it here.
		select {
		case <-ctx.Done():
			return
		case <-time.After(barrierRetry):
		}
	}
}
