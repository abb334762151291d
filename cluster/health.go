package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

const (
	// leaderLook is how often a peer looks whether it has a leader.
	leaderLook = 500 * time.Millisecond
	// electionTime is how long a peer may be without a leader before that is an
	// alert: elections take a second or two.
	electionTime = 3 * time.Second
	// confirmLimit is how old a leader's last word to this peer may be. Reports
	// are answered every two seconds.
	confirmLimit = 8 * time.Second
	// nodeWait is how long the IPFS node may take to say that it works.
	nodeWait = 2 * time.Second
)

// Readiness says whether this peer can take writes now: it has a leader that
// has answered it lately, its IPFS node works, and no part of it says that
// nothing can be written.
func (c *Cluster) Readiness(ctx context.Context) api.Readiness {
	var because []api.Condition
	if why := c.leaderless(); why != "" {
		_, since := c.following.without()
		because = append(because, api.Condition{Name: api.AlertNoLeader, Message: why, Since: since})
	}
	for _, condition := range c.conditions.now(c.wall()) {
		if api.StopsWrites(condition.Name) && condition.Name != api.AlertNoLeader {
			because = append(because, condition)
		}
	}
	if why := c.nodeError(ctx); why != "" {
		because = append(because, api.Condition{Name: api.AlertIPFS, Message: nodeBroken + why})
	}
	return api.NotReady(because...)
}

// nodeError says why the IPFS node cannot work; "": it works.
func (c *Cluster) nodeError(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, nodeWait)
	defer cancel()
	_, err := c.node.Free(ctx)
	if err == nil {
		_, err = c.node.RepoSize(ctx)
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// following remembers since when this peer has no leader.
type following struct {
	mu   sync.Mutex
	lost time.Time // zero: it has one
	wall time.Time // what the machine's clock said then
}

// note says whether there is a leader now.
func (f *following) note(has bool, wall time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case has:
		f.lost, f.wall = time.Time{}, time.Time{}
	case f.lost.IsZero():
		f.lost, f.wall = time.Now(), wall.UTC()
	}
}

// without is for how long there has been no leader, 0 if there is one, and when
// that began by the machine's clock.
func (f *following) without() (time.Duration, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.lost.IsZero() {
		return 0, time.Time{}
	}
	return time.Since(f.lost), f.wall
}

// watchLeader looks for the leader until ctx ends. While raft reads its log, as
// it does for long after a crash, nobody is known and nobody is missing.
func (c *Cluster) watchLeader(ctx context.Context) {
	every(ctx, leaderLook, func() {
		reading := len(c.membership.Members()) == 0
		c.following.note(reading || c.leaderless() == "", c.wall())
	})
}

// leaderless says why this peer has no leader that listens to it, and what to
// do; "" when it has one.
func (c *Cluster) leaderless() string {
	leader, known := c.log.Leader()
	if known && leader == c.cfg.Self {
		return ""
	}
	age, ever := c.peers.Confirmed()
	switch {
	case known && ever && age < confirmLimit:
		return ""
	case known && ever:
		return fmt.Sprintf("the leader %s has not answered this peer for %s, so writes through this peer fail; look at the network between the two, and at the leader's load",
			c.called(leader), age.Round(time.Second))
	case known:
		return fmt.Sprintf("the leader %s has not answered this peer yet", c.called(leader))
	}
	voters := 0
	var away []string
	for _, m := range c.membership.Members() {
		if m.Voter {
			voters++
		}
		if m.ID != c.cfg.Self && !c.sees(m.ID) {
			away = append(away, c.called(m.ID))
		}
	}
	text := fmt.Sprintf("this peer knows no leader: of %d voters %d must be up and reach one another. Writes are refused, and reads show what was known before", voters, voters/2+1)
	if len(away) > 0 {
		text += "; not reached from here: " + strings.Join(away, ", ")
	}
	return text + ". Start the peers that are away, or repair the network. If they are lost for good, see \"When the majority is lost\" in docs/deployment.md"
}

// called is a peer's name and ID, for people.
func (c *Cluster) called(id peer.ID) string {
	if name := c.nameOf(id); name != "" {
		return fmt.Sprintf("%s (%s)", name, id)
	}
	return id.String()
}

// sees says whether this peer is in touch with another now.
func (c *Cluster) sees(id peer.ID) bool {
	view, ok := c.view(id)
	if c.connected != nil {
		return c.connected(id) && !(ok && view.State == api.PeerDown)
	}
	return ok && (view.State == api.PeerUp || view.State == api.PeerSuspect)
}

// ownConditions are what the use cases themselves find wrong with this peer.
func (c *Cluster) ownConditions() []api.Condition {
	var found []api.Condition
	if without, since := c.following.without(); without >= electionTime {
		if why := c.leaderless(); why != "" {
			found = append(found, api.Condition{Name: api.AlertNoLeader, Message: why, Since: since})
		}
	}
	return append(found, c.clockConditions()...)
}
