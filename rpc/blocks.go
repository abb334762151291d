package rpc

import (
	"context"
	"errors"
	"io"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// BlockStream carries blocks to one peer, with back-pressure. It is used by
// one goroutine at a time.
type BlockStream struct {
	to      peer.ID
	cancel  context.CancelFunc
	batches chan api.BlockBatch
	replies chan Reply[uint64]
	done    chan struct{}
	err     error // of the transport, once done is closed
	waiting int   // batches sent and not yet acknowledged
	sent    uint64
	failed  error
}

// window is how many batches may be under way to a peer.
const window = 8

// OpenBlocks starts a stream of blocks to a peer. It ends with Close, or when
// ctx does.
func (c *Client) OpenBlocks(ctx context.Context, to peer.ID) *BlockStream {
	ctx, cancel := context.WithCancel(ctx)
	s := &BlockStream{to: to, cancel: cancel, batches: make(chan api.BlockBatch),
		replies: make(chan Reply[uint64], window), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.err = c.transport.Stream(ctx, to, serviceNode, "PutBlocks", s.batches, s.replies)
	}()
	return s
}

// Put sends a batch. An error may be that of an earlier batch; after one the
// stream can only be closed.
func (s *BlockStream) Put(blocks []api.Block) error {
	return s.send(api.BlockBatch{Blocks: blocks})
}

// Close flushes: it returns nil when the peer has every block on its disk.
func (s *BlockStream) Close() error {
	defer func() {
		s.cancel()
		close(s.batches)
		for range s.replies {
		}
		<-s.done
	}()
	if s.failed != nil {
		return s.failed
	}
	if err := s.send(api.BlockBatch{End: true}); err != nil {
		return err
	}
	for s.waiting > 0 {
		if err := s.receive(); err != nil {
			return err
		}
	}
	return nil
}

// Abort ends the stream; what was sent may or may not be stored.
func (s *BlockStream) Abort() {
	if s.failed == nil {
		s.failed = api.Errorf(api.CodeUnavailable, "the add was given up")
	}
	_ = s.Close()
}

func (s *BlockStream) send(batch api.BlockBatch) error {
	if s.failed != nil {
		return s.failed
	}
	for s.waiting >= window {
		if err := s.receive(); err != nil {
			return err
		}
	}
	for {
		select {
		case s.batches <- batch:
			s.waiting++
			s.sent += uint64(len(batch.Blocks))
			return nil
		case reply, ok := <-s.replies:
			if err := s.acknowledge(reply, ok); err != nil {
				return err
			}
		case <-s.done:
			return s.fail(s.err)
		}
	}
}

func (s *BlockStream) receive() error {
	reply, ok := <-s.replies
	return s.acknowledge(reply, ok)
}

func (s *BlockStream) acknowledge(reply Reply[uint64], ok bool) error {
	if !ok { // the peer has ended the stream; ours has not ended by that
		s.cancel()
		<-s.done
		if errors.Is(s.err, context.Canceled) {
			return s.fail(nil)
		}
		return s.fail(s.err)
	}
	if reply.Err != nil {
		return s.fail(reply.Err)
	}
	s.waiting--
	return nil
}

func (s *BlockStream) fail(err error) error {
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	var coded *api.Error
	if !errors.As(err, &coded) {
		err = api.Errorf(api.CodeUnavailable, "send blocks to peer %s: %w", s.to, err)
	}
	s.failed = err
	return err
}
