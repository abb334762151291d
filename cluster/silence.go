package cluster

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// silenceTime is how long a peer that did not answer in time is not asked again.
// Who leads finds it down later than that; until then every question would wait
// for it anew.
const silenceTime = 15 * time.Second

// silences remembers which peers did not answer.
type silences struct {
	mu    sync.Mutex
	since map[peer.ID]time.Time
}

// of returns when a peer did not answer, if it was a short time ago.
func (s *silences) of(id peer.ID) (time.Time, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, silent := s.since[id]
	if silent && time.Since(since) > silenceTime {
		delete(s.since, id)
		silent = false
	}
	return since, silent
}

func (s *silences) note(id peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.since == nil {
		s.since = map[peer.ID]time.Time{}
	}
	s.since[id] = time.Now()
}

// ask puts a question to a peer, unless it is of no use now. A failure that took
// long is remembered; one that was told at once costs the next question nothing.
func (c *Cluster) ask(ctx context.Context, member peer.ID, question func() error) error {
	if err := c.reachable(member); err != nil {
		return err
	}
	asked := time.Now()
	err := question()
	c.unanswered(ctx, member, asked, err)
	return err
}

// unanswered remembers a peer that has kept a question waiting.
func (c *Cluster) unanswered(ctx context.Context, member peer.ID, asked time.Time, err error) {
	if api.CodeOf(err) == api.CodeUnavailable && ctx.Err() != context.Canceled && time.Since(asked) >= c.cfg.PeerTimeout*9/10 {
		c.silences.note(member)
	}
}
