package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"holdfast/api"
)

// lateLog is a log whose entries reach this peer when reached is closed.
type lateLog struct {
	Log
	reached chan struct{}
	barrier uint64
}

func (l *lateLog) ReadIndex(context.Context) (uint64, error) { return l.barrier, nil }

func (l *lateLog) WaitApplied(ctx context.Context, _ uint64) error {
	select {
	case <-l.reached:
		return nil
	case <-ctx.Done():
		return api.Errorf(api.CodeUnavailable, "this peer is behind: %w", context.Cause(ctx))
	}
}

func TestReadAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		result, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), api.PinOptions{}))
		if err != nil {
			t.Fatal(err)
		}
		late := &lateLog{Log: w, reached: make(chan struct{}), barrier: result.Index + 1}
		w.cluster.log = late
		for _, at := range []api.ReadPoint{{}, {Index: 1}, {Index: result.Index}} {
			if index, err := w.cluster.ReadAt(t.Context(), at); err != nil || index != result.Index {
				t.Errorf("read at %+v: index %d, %v", at, index, err)
			}
		}
		for _, at := range []api.ReadPoint{{Index: result.Index + 1}, {Consistent: true}} {
			if _, err := w.cluster.ReadAt(t.Context(), at); !errors.Is(err, api.ErrUnavailable) {
				t.Errorf("read at %+v, which does not come: %v", at, err)
			}
			ctx, cancel := context.WithCancelCause(t.Context())
			done := make(chan error)
			go func() {
				_, err := w.cluster.ReadAt(ctx, at)
				done <- err
			}()
			synctest.Wait()
			cancel(errors.New("gone"))
			if err := <-done; !errors.Is(err, api.ErrUnavailable) {
				t.Errorf("read at %+v of a client that left: %v", at, err)
			}
			go func() {
				_, err := w.cluster.ReadAt(t.Context(), at)
				done <- err
			}()
			synctest.Wait()
			close(late.reached)
			if err := <-done; err != nil {
				t.Errorf("read at %+v, which comes: %v", at, err)
			}
			late.reached = make(chan struct{})
		}
	})
}
