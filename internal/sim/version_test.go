package sim

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/state"
)

// agreed returns the version of commands that each running peer's pinset allows.
func (c *Cluster) agreed() []uint32 {
	var out []uint32
	for _, p := range c.Peers() {
		if p.up() {
			out = append(out, p.now.Load().daemon.CommandVersion())
		}
	}
	return out
}

// TestRollingUpgrade: peers of two versions work together, newer commands are
// allowed when the last peer is upgraded, and from then on an older program
// neither joins nor starts.
func TestRollingUpgrade(t *testing.T) {
	next := state.CommandVersion + 1
	simulate(t, three, func(c *Cluster) {
		w := &Workload{Clients: 3, Keys: 5, Each: 1000, Think: time.Second}
		w.Begin(c)
		for i, p := range c.Peers() {
			for _, version := range c.agreed() {
				if version != state.CommandVersion {
					t.Errorf("%d of 3 peers are upgraded, and version %d is allowed", i, version)
				}
			}
			p.Stop()
			p.knows = next
			c.Start(p)
			time.Sleep(30 * time.Second)
			c.Pin(c.Peers()[(i+1)%3], 100+i, api.PinOptions{})
		}
		c.until("the newer version", func() error {
			if got := c.agreed(); fmt.Sprint(got) != fmt.Sprint([]uint32{next, next, next}) {
				return fmt.Errorf("it is %v", got)
			}
			return nil
		})
		w.End()

		old := c.addPeer()
		if err := c.admit(old); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "install the version") {
			t.Errorf("an older program joins: %v", err)
		}
		old.removed = true

		p := c.Follower()
		p.Stop()
		p.knows = state.CommandVersion
		c.must(p.start())
		inc := p.now.Load()
		inc.asked.Store(true) // it is to end by itself
		<-inc.done
		if api.CodeOf(inc.err) != api.CodeInvalid {
			t.Errorf("an older program started: %v", inc.err)
		}
		p.now.Store(nil)
		p.knows = next
		c.Start(p)
	})
}
