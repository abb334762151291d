package consensus

import (
	"errors"
	"testing"
)

// Raft takes an offer of leadership that nobody looks at any more. The
// goroutine that made it must not wait for ever.
func TestTransferEndsWithFailure(t *testing.T) {
	simulate(t, 3, 3, nil, func(t *testing.T, c *testCluster) {
		leader := c.leader()
		other := c.others(leader)[0]
		if err := c.stop(leader); err != nil {
			t.Fatal(err)
		}
		leader.log.fail(errors.New("the disk is gone"))
		for range 20 { // raft takes it or refuses it, by chance
			future := leader.log.raft.Load().LeadershipTransferToServer(serverID(other.id), serverAddress(other.id))
			if err := leader.log.untilFailure(future).Error(); err == nil {
				t.Fatal("a peer that has stopped handed leadership over")
			}
		}
	})
}
