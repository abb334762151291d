package adder

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

var errStalled = errors.New("the peer takes no blocks")

// target puts batches into one destination, in a goroutine of its own, so that
// making blocks and sending them go on side by side.
type target struct {
	peer    peer.ID
	batches chan []api.Block // closed after the last one
	done    chan struct{}    // closed when the destination is closed
	err     error            // once done is closed: nil when it has every block
}

// openTarget starts a target. It ends after its batches are closed, with the
// first error, or when ctx does.
func (a *Adder) openTarget(ctx context.Context, id peer.ID) *target {
	t := &target{peer: id, batches: make(chan []api.Block, a.config.QueueBatches), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.err = t.run(ctx, a.deps.Open, a.config.StallTimeout)
	}()
	return t
}

func (t *target) run(ctx context.Context, open func(context.Context, peer.ID) (Destination, error), stall time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Ending the context is what makes a destination that hangs return.
	watch := time.AfterFunc(stall, func() { cancel(fmt.Errorf("%w for %v", errStalled, stall)) })
	defer watch.Stop()
	destination, err := open(ctx, t.peer)
	if err != nil {
		return reason(ctx, err)
	}
	if err := t.forward(ctx, destination, watch, stall); err != nil {
		err = reason(ctx, err)
		cancel(err)
		_ = destination.Close() // the first error is the one to tell
		return err
	}
	watch.Reset(stall)
	if err := destination.Close(); err != nil {
		return reason(ctx, err)
	}
	return nil
}

// keepAlive is how often a destination hears of an add whose upload is slow. One
// that hears nothing gives up in the end, for this peer may stand still.
const keepAlive = 30 * time.Second

// forward puts batches until there are no more.
func (t *target) forward(ctx context.Context, destination Destination, watch *time.Timer, stall time.Duration) error {
	alive := time.NewTicker(keepAlive)
	defer alive.Stop()
	for {
		watch.Stop() // waiting for the upload is not the destination's fault
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case batch, ok := <-t.batches:
			if !ok {
				return nil
			}
			watch.Reset(stall)
			if err := destination.Put(ctx, batch); err != nil {
				return err
			}
			alive.Reset(keepAlive)
		case <-alive.C:
			watch.Reset(stall)
			if err := destination.Put(ctx, nil); err != nil {
				return err
			}
		}
	}
}

// reason prefers the cause of an ended context, and gives a code to an error
// that has none: the peer could not be reached.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var coded *api.Error
	if errors.As(err, &coded) {
		return err
	}
	return api.Errorf(api.CodeUnavailable, "%w", err)
}
