package rpc

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Frame is one message of a stream of items. The last one says that it is, so
// that a stream which was cut off is not taken for a whole one; and one without
// items says that the peer is still at work.
type Frame[T any] struct {
	Items []T        `codec:",omitempty"`
	End   bool       `codec:",omitempty"`
	Err   *api.Error `codec:",omitempty"` // of the last frame
}

const (
	// batchSize is how many items travel in one message of a stream.
	batchSize = 256
	// aliveEvery is how often a peer at work says so, and silence after how long
	// without a word it is given up. A peer that is told to wait says nothing, so
	// only the time that somebody waits for it counts.
	aliveEvery = time.Second
	// silence is for questions, and workSilence for what takes a machine's whole
	// strength.
	silence     = 5 * time.Second
	workSilence = 30 * time.Second
)

// sendFrames answers the one request of a stream with a sequence.
func sendFrames[In, T any](ctx context.Context, in <-chan In, out chan<- Frame[T], items func(context.Context, In) iter.Seq2[T, error]) error {
	defer close(out)
	request, ok := <-in
	defer drain(in)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan Frame[T])
	go func() {
		defer close(batches)
		batch := Frame[T]{}
		pass := func(f Frame[T]) bool {
			select {
			case batches <- f:
				return true
			case <-ctx.Done():
				return false
			}
		}
		flushed := time.Now()
		for item, err := range items(ctx, request) {
			if err != nil {
				batch.Err = api.AsError(err)
				break
			}
			batch.Items = append(batch.Items, item)
			// What comes slowly is told all the same.
			if len(batch.Items) == batchSize || time.Since(flushed) > aliveEvery {
				if !pass(batch) {
					return
				}
				batch, flushed = Frame[T]{}, time.Now()
			}
		}
		batch.End = true
		pass(batch)
	}()
	alive := time.NewTicker(aliveEvery)
	defer alive.Stop()
	for {
		var frame Frame[T]
		select {
		case frame, ok = <-batches:
			if !ok {
				return nil
			}
		case <-alive.C:
		case <-ctx.Done():
			for range batches { // items ends, too, before its stream does
			}
			return nil
		}
		select {
		case out <- frame:
		case <-ctx.Done():
			for range batches {
			}
			return nil
		}
		if frame.End {
			return nil
		}
	}
}

// drain takes what a caller still sends: gorpc ends a stream when its requests
// have been read to their end.
func drain[T any](in <-chan T) {
	go func() {
		for range in {
		}
	}()
}

// ahead reads as much as a sender may have under way: gorpc notices that a caller
// is gone while it reads. When ctx has ended it only drains.
func ahead[T any](ctx context.Context, in <-chan T) <-chan T {
	out := make(chan T, window)
	go func() {
		defer close(out)
		for item := range in {
			select {
			case out <- item:
			case <-ctx.Done():
			}
		}
	}()
	return out
}

// sendBatches is what peers of an older version are sent; its error, if any, is
// the last message.
func sendBatches[In, T any](ctx context.Context, in <-chan In, out chan<- Reply[[]T], items func(context.Context, In) iter.Seq2[T, error]) error {
	defer close(out)
	request, ok := <-in
	defer drain(in)
	if !ok {
		return nil
	}
	var batch []T
	send := func(r Reply[[]T]) bool {
		select {
		case out <- r:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for item, err := range items(ctx, request) {
		if err != nil {
			send(Reply[[]T]{Value: batch, Err: api.AsError(err)})
			return nil
		}
		if batch = append(batch, item); len(batch) == batchSize {
			if !send(Reply[[]T]{Value: batch}) {
				return nil
			}
			batch = nil
		}
	}
	if len(batch) > 0 {
		send(Reply[[]T]{Value: batch})
	}
	return nil
}

// errOlder says that a peer does not know a method.
var errOlder = errors.New("the peer does not know the method: it is of an older version")

// frames sends one request and yields the items that come back. A stream without
// its end, and a peer that is silent, are errors with code unavailable. older
// asks a peer of an older version, whose streams have no end that can be told
// from a break.
func frames[In, T any](ctx context.Context, c *Client, to peer.ID, service, method string, in In, silence time.Duration, older iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var zero T
		err := receive(ctx, c, to, service, method, in, silence, func(f Frame[T]) bool {
			for _, item := range f.Items {
				if !yield(item, nil) {
					return false
				}
			}
			return true
		})
		switch {
		case errors.Is(err, errOlder):
			older(yield)
		case err != nil:
			yield(zero, err)
		}
	}
}

// receive hands the frames of a stream to take until it wants no more.
func receive[In, T any](ctx context.Context, c *Client, to peer.ID, service, method string, in In, silence time.Duration, take func(Frame[T]) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	requests := make(chan In, 1)
	requests <- in
	close(requests)
	replies := make(chan Frame[T])
	done := make(chan error, 1)
	go func() { done <- c.transport.Stream(ctx, to, service, method, requests, replies) }()
	finish := func() {
		for range replies {
		}
		<-done
	}
	quiet := time.NewTimer(silence)
	defer quiet.Stop()
	for {
		select {
		case f, open := <-replies:
			if !open {
				if err := <-done; err != nil {
					return err
				}
				return api.Errorf(api.CodeUnavailable, "peer %s broke off its answer", to)
			}
			quiet.Stop()
			if !take(f) {
				cancel()
				finish()
				return nil
			}
			if f.End {
				defer time.AfterFunc(time.Second, cancel).Stop() // it has nothing more to say
				finish()
				if f.Err != nil {
					return f.Err
				}
				return nil
			}
			quiet.Reset(silence)
		case <-quiet.C:
			cancel()
			finish()
			return api.Errorf(api.CodeUnavailable, "peer %s has said nothing for %s", to, silence)
		}
	}
}
