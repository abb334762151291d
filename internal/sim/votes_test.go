package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/cluster"
	"holdfast/config"
)

// votes returns the peers that vote, as the leader knows them, in their order.
func (c *Cluster) votes() []*Peer {
	var out []*Peer
	for _, m := range c.Leader().now.Load().daemon.Log().Members() {
		if m.Voter {
			out = append(out, c.ByID(m.ID))
		}
	}
	slices.SortFunc(out, func(a, b *Peer) int { return a.number - b.number })
	return out
}

// awaitVotes waits until so many vote and all of them run.
func (c *Cluster) awaitVotes(want int) {
	c.t.Helper()
	c.until(fmt.Sprint(want, " votes"), func() error {
		names := []string{}
		living := 0
		for _, p := range c.votes() {
			names = append(names, p.Name)
			if p.up() {
				living++
			}
		}
		if len(names) != want || living != want {
			return fmt.Errorf("it is %d, %d of them alive: %s", len(names), living, strings.Join(names, ", "))
		}
		return nil
	})
}

func (c *Cluster) setRole(p *Peer, role api.Role) error {
	return c.Use(c.Leader(), time.Minute, func(ctx context.Context, via *cluster.Cluster) error {
		return via.SetRole(ctx, api.RoleRequest{Peer: p.ID, Role: role})
	})
}

func voting(n int) func(*config.Config) {
	return func(settings *config.Config) { settings.Voters = n }
}

// TestVotersDieOneAfterAnother: learners take over the votes, then the rest
// votes with fewer, and the cluster outlives what five fixed votes would not.
func TestVotersDieOneAfterAnother(t *testing.T) {
	simulate(t, Options{Peers: 7, Configure: voting(5)}, func(c *Cluster) {
		c.awaitVotes(5)
		w := &Workload{Clients: 3, Keys: 5, Each: 1000, Think: time.Second}
		w.Begin(c)
		var dead []*Peer
		for _, want := range []int{5, 5, 3, 3} {
			living := slices.DeleteFunc(c.votes(), func(p *Peer) bool { return !p.up() })
			voter := living[c.dice().IntN(len(living))]
			voter.Crash(50)
			dead = append(dead, voter)
			if len(dead) == 3 {
				// Four of five votes live, and one more may fail: nothing to gain.
				time.Sleep(time.Minute)
				continue
			}
			c.awaitVotes(want)
		}
		w.End()
		c.Pin(c.Leader(), 150, replicas(1, 2))
		c.Start(dead...)
		c.awaitVotes(5)
	})
}

// TestThreeAndTwo: a dead voter of three is replaced by a learner, twice, and
// stays a learner when it is back.
func TestThreeAndTwo(t *testing.T) {
	simulate(t, Options{Peers: 5, Configure: voting(3)}, func(c *Cluster) {
		c.awaitVotes(3)
		for range 2 {
			dead := c.votes()[0]
			dead.Crash(0)
			c.awaitVotes(3)
			c.Start(dead)
			time.Sleep(time.Minute)
			if slices.Contains(c.votes(), dead) {
				t.Errorf("%s took its vote back from one that worked", dead.Name)
			}
		}
	})
}

// TestFlappingVoter: who is away for less than the patience keeps its vote.
func TestFlappingVoter(t *testing.T) {
	simulate(t, Options{Peers: 5, Configure: voting(3)}, func(c *Cluster) {
		c.awaitVotes(3)
		before := c.votes()
		for range 5 {
			p := c.votes()[c.dice().IntN(3)]
			c.Isolate(p, true)
			time.Sleep(15 * time.Second)
			c.Isolate(p, false)
			time.Sleep(15 * time.Second)
		}
		if after := c.votes(); !slices.Equal(before, after) {
			t.Errorf("the votes moved from %v to %v", before, after)
		}
	})
}

// TestWishedRoles: who an operator promotes votes, who is demoted does not, and
// the cluster does not undo it, also not under another leader.
func TestWishedRoles(t *testing.T) {
	simulate(t, Options{Peers: 5, Configure: voting(3)}, func(c *Cluster) {
		c.awaitVotes(3)
		w := &Workload{Clients: 3, Keys: 5, Each: 1000, Think: time.Second}
		w.Begin(c)
		learner := c.others(c.votes()...)[0]
		c.must(c.setRole(learner, api.RoleVoter))
		c.awaitVotes(3)
		demoted := c.Leader() // the hard case
		c.must(c.setRole(demoted, api.RoleLearner))
		c.awaitVotes(3)
		time.Sleep(2 * time.Minute)
		for range 2 {
			votes := c.votes()
			if !slices.Contains(votes, learner) || slices.Contains(votes, demoted) || len(votes) != 3 {
				t.Errorf("the votes are %v; %s was promoted and %s demoted", votes, learner.Name, demoted.Name)
			}
			c.must(c.Use(demoted, time.Minute, func(ctx context.Context, via *cluster.Cluster) error {
				return via.TransferLeadership(ctx, learner.ID)
			}))
			if leader := c.Leader(); leader != learner {
				t.Errorf("%s leads, leadership was given to %s", leader.Name, learner.Name)
			}
			time.Sleep(time.Minute)
		}
		if err := c.setRole(demoted, api.RoleAuto); err != nil {
			t.Error(err)
		}
		w.End()
	})
}
