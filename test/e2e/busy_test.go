//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestBusyPeers keeps three peers and every core at full load for the time that
// BUSY says (ten seconds), and tells how often the leader changed and how many
// terms there were. Both are told, not judged: they depend on the machine. On
// one that can carry the load they are 0.
func TestBusyPeers(t *testing.T) {
	length := 10 * time.Second
	if text := os.Getenv("BUSY"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("BUSY: %v", err)
		}
	}
	c := newCluster(t, 3, nil)
	c.leader()
	terms, changes := c.elections()
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var load sync.WaitGroup
	for range runtime.NumCPU() {
		load.Go(func() {
			for ctx.Err() == nil { // keeps a core busy
			}
		})
	}
	for i, p := range c.peers {
		load.Go(func() { p.bench(ctx, "pins", "--clients", "64", "--count", "4000") })
		if i < 2 {
			load.Go(func() { p.bench(ctx, "bulk", "--count", "20000") })
		}
	}
	load.Wait()
	c.waitWhole()
	termsAfter, changesAfter := c.elections()
	t.Logf("%s of full load: %d new terms, %d times that a peer found a leader anew", length, termsAfter-terms, changesAfter-changes)
	c.samePinset(time.Minute)
	c.noPanic()
}

// elections returns the latest term, and how often the peers came to know a
// leader, all together.
func (c *testCluster) elections() (term, changes uint64) {
	c.t.Helper()
	for _, p := range c.peers {
		eventually(c.t, time.Minute, p.name+" says who it is", func(ctx context.Context) error {
			id, err := p.rest.ID(ctx)
			if err == nil {
				term = max(term, id.Term)
				changes += id.LeaderChanges
			}
			return err
		})
	}
	return term, changes
}

// bench runs a benchmark against the peer again and again until ctx ends.
func (p *testPeer) bench(ctx context.Context, args ...string) {
	for ctx.Err() == nil {
		cmd := exec.CommandContext(ctx, ctlBin, append([]string{"--host", loopback(p.ports.rest), "bench"}, args...)...)
		cmd.Env = p.environment()
		out, err := cmd.CombinedOutput()
		if err != nil && ctx.Err() == nil {
			p.t.Logf("%s: bench %s: %v\n%s", p.name, strings.Join(args, " "), err, out)
			return
		}
		if err == nil {
			p.t.Logf("%s: %s", p.name, strings.TrimSpace(string(out)))
		}
	}
}
