package rpc

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/test"

	"holdfast/api"
)

// lessor counts the leases that are held and tells of each that ends.
type lessor struct {
	answering
	held  atomic.Int32
	ended chan struct{}
}

func (l *lessor) Lease(context.Context) (func(), error) {
	l.held.Add(1)
	return func() { l.held.Add(-1); l.ended <- struct{}{} }, nil
}

func (l *lessor) open(t *testing.T) (*Client, peer.ID) {
	var network Memory
	member := func(peer.ID) Role { return Voter }
	to := test.RandPeerIDFatal(t)
	network.Serve(to, Services{Cluster: l, Joiner: l, Tracker: l, Monitor: l, Node: l}, member)
	return NewClient(network.Serve(test.RandPeerIDFatal(t), Services{}, member)), to
}

// TestSilentSenderLosesItsLease has a sender of blocks stand still, with its
// stream open, as a process does that is stopped or stuck. One that sends now
// and then, if only that it is alive, keeps the lease for as long as it likes.
func TestSilentSenderLosesItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lessor{ended: make(chan struct{}, 1)}
		c, to := l.open(t)
		s := c.OpenBlocks(t.Context(), to)
		begin := time.Now()
		for time.Since(begin) < 3*blockSilence {
			if err := s.Put(nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(blockSilence - time.Second)
			synctest.Wait()
			if l.held.Load() != 1 {
				t.Fatalf("the lease of a living sender ended after %s", time.Since(begin))
			}
		}
		begin = time.Now()
		<-l.ended
		if took := time.Since(begin); took > blockSilence || l.held.Load() != 0 {
			t.Errorf("the lease of a silent sender ended after %s", took)
		}
		err := s.Put([]api.Block{{}})
		if err == nil {
			err = s.Close()
		} else {
			_ = s.Close()
		}
		if !errors.Is(err, api.ErrUnavailable) {
			t.Errorf("the sender comes to life and is told %v", err)
		}
	})
}

// TestLeaseEndsWithTheAdd has the sender's context end.
func TestLeaseEndsWithTheAdd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lessor{ended: make(chan struct{}, 1)}
		c, to := l.open(t)
		ctx, cancel := context.WithCancel(t.Context())
		s := c.OpenBlocks(ctx, to)
		if err := s.Put([]api.Block{{}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		begin := time.Now()
		cancel()
		<-l.ended
		if took := time.Since(begin); took != 0 {
			t.Errorf("the lease ended %s after the add", took)
		}
		_ = s.Close()
	})
}
