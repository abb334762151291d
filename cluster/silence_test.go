package cluster

import (
	"context"
	"iter"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// stopped answers as a world's peers do, but for one that keeps everybody
// waiting, as a process that was stopped does.
type stopped struct {
	remote
	who   peer.ID
	asked atomic.Int32
}

func (s *stopped) hang(ctx context.Context, to peer.ID) error {
	if to != s.who {
		return nil
	}
	s.asked.Add(1)
	<-ctx.Done()
	return api.Errorf(api.CodeUnavailable, "no answer: %w", ctx.Err())
}

func (s *stopped) Status(ctx context.Context, to peer.ID, c api.Cid) (api.PinInfo, error) {
	if err := s.hang(ctx, to); err != nil {
		return api.PinInfo{}, err
	}
	return s.remote.Status(ctx, to, c)
}

func (s *stopped) ID(ctx context.Context, to peer.ID) (api.ID, error) {
	return api.ID{ID: to}, s.hang(ctx, to)
}

func (s *stopped) RepoStat(ctx context.Context, to peer.ID) (api.RepoStat, error) {
	return api.RepoStat{RepoSize: 1}, s.hang(ctx, to)
}

// StatusAll gives up as the real one does, when nothing has come for a while.
func (s *stopped) StatusAll(ctx context.Context, to peer.ID, q api.StatusQuery) iter.Seq2[api.PinInfo, error] {
	return func(yield func(api.PinInfo, error) bool) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := s.hang(ctx, to); err != nil {
			yield(api.PinInfo{}, err)
			return
		}
		s.remote.StatusAll(ctx, to, q)(yield)
	}
}

// However many pins are asked about, and however: a peer that does not answer
// costs its time once, its status is an error that says so, and all others'
// statuses are there.
func TestStoppedPeerIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4, nil)
		far := &stopped{remote: remote{world: w}, who: testPeer(1)}
		w.cluster.remote = far
		query := api.StatusQuery{}
		for i := range 100 {
			if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(i), api.PinOptions{ReplicationFactorMin: -1, ReplicationFactorMax: -1})); err != nil {
				t.Fatal(err)
			}
			for n := range 4 {
				if tracker := w.others[testPeer(n)]; tracker != nil {
					tracker.set(testCid(i), api.StatusPinned)
				}
			}
			w.tracker.set(testCid(i), api.StatusPinned)
			query.Cids = append(query.Cids, testCid(i))
		}
		statuses := func(q api.StatusQuery) {
			seen := 0
			for info, err := range w.cluster.StatusAll(t.Context(), q) {
				if err != nil {
					t.Fatal(err)
				}
				seen++
				if got := info.PeerMap[testPeer(1).String()]; got.Status != api.StatusClusterError || got.Error == "" {
					t.Fatalf("of the stopped peer: %+v", got)
				}
				for n := range 4 {
					if got := info.PeerMap[testPeer(n).String()]; n != 1 && got.Status != api.StatusPinned {
						t.Fatalf("of peer %d: %+v", n, got)
					}
				}
			}
			if seen != 100 {
				t.Fatalf("%d of 100 pins", seen)
			}
		}
		selected := api.StatusQuery{}
		selected.Pins.Peer = testPeer(2)
		for name, question := range map[string]func(){
			"by CIDs":  func() { statuses(query) },
			"all":      func() { statuses(api.StatusQuery{}) },
			"selected": func() { statuses(selected) },
			"peers": func() {
				for range w.cluster.Peers(t.Context()) {
				}
			},
			"repo stat":  func() { _, _ = w.cluster.RepoStat(t.Context()) },
			"status one": func() { _, _ = w.cluster.Status(t.Context(), testCid(1), false) },
		} {
			time.Sleep(2 * silenceTime)
			far.asked.Store(0)
			begun := time.Now()
			question()
			if took := time.Since(begun); took > w.cluster.cfg.PeerTimeout+time.Second {
				t.Errorf("%s: took %s", name, took)
			}
			begun = time.Now()
			question()
			if took := time.Since(begun); took > time.Second || far.asked.Load() != 1 {
				t.Errorf("%s again: took %s, the stopped peer was asked %d times", name, took, far.asked.Load())
			}
		}
	})
}

// A caller who loses patience has not found anybody silent.
func TestImpatientCallerBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, nil)
		far := &stopped{remote: remote{world: w}, who: testPeer(1)}
		w.cluster.remote = far
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			for range w.cluster.Peers(ctx) {
			}
			cancel()
		}
		if far.asked.Load() != 2 {
			t.Errorf("asked %d times of 2", far.asked.Load())
		}
	})
}
