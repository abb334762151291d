package consensus

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// Whoever takes the answers of a pipeline may stop while another sends. The
// sender waits for room that never comes, unless the pipeline is given up.
func TestPipelineIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := pipes("a", "b")
		a, b := NewTransport(TransportConfig{Layer: network["a"]}), NewTransport(TransportConfig{Layer: network["b"]})
		quit := make(chan struct{})
		go func() {
			for {
				select {
				case rpc := <-b.Consumer():
					rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
				case <-quit:
					return
				}
			}
		}()
		stuck := func() error {
			pipeline, err := a.AppendEntriesPipeline("b", "b")
			if err != nil {
				return err
			}
			for range 1000 {
				if _, err := pipeline.AppendEntries(&raft.AppendEntriesRequest{Entries: entries(1, 1, 1)}, new(raft.AppendEntriesResponse)); err != nil {
					return errors.Join(err, pipeline.Close())
				}
			}
			return nil
		}
		begun := time.Now()
		if err := stuck(); !errors.Is(err, raft.ErrPipelineShutdown) || time.Since(begun) > 2*pipelinePatience {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		result := make(chan error)
		begun = time.Now()
		go func() { result <- stuck() }()
		synctest.Wait()
		closeAll(t, a)
		if err := <-result; !errors.Is(err, raft.ErrPipelineShutdown) || time.Since(begun) > 0 {
			t.Errorf("%v after the transport was closed: %v", time.Since(begun), err)
		}
		if err := stuck(); err == nil {
			t.Error("a closed transport opens a pipeline")
		}
		close(quit)
		closeAll(t, b)
	})
}
