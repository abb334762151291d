//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// testCluster is some peers that are members of one cluster.
type testCluster struct {
	t     *testing.T
	base  string // holds the peers' folders and logs
	peers []*testPeer
}

// workDir is a folder of the test, kept when E2E_KEEP asks for it.
func workDir(t *testing.T) string {
	t.Helper()
	keep := os.Getenv("E2E_KEEP")
	if keep == "" {
		return t.TempDir()
	}
	dir := filepath.Join(keep, strings.ReplaceAll(t.Name(), "/", "_"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Logf("folders and logs are kept in %s", dir)
	return dir
}

// newCluster starts n peers as an operator would: init and daemon on the first,
// a token for each of the others, join and daemon there. Settings are of all.
func newCluster(t *testing.T, n int, settings map[string]string) *testCluster {
	t.Helper()
	c := &testCluster{t: t, base: workDir(t)}
	first := newPeer(t, c.base, "peer0", settings)
	first.mustService("init", "--private")
	first.startReady()
	c.peers = append(c.peers, first)
	for k := 1; k < n; k++ {
		c.join(fmt.Sprintf("peer%d", k), settings)
	}
	for _, p := range c.peers[1:] {
		p.waitReady(startTime)
	}
	c.waitWhole()
	return c
}

// join adds one more peer and starts it; it need not be ready on return.
func (c *testCluster) join(name string, settings map[string]string) *testPeer {
	c.t.Helper()
	p := newPeer(c.t, c.base, name, settings)
	p.mustService("join", "--private", c.token())
	p.start()
	c.peers = append(c.peers, p)
	return p
}

// token makes a join token through the first running peer.
func (c *testCluster) token() string {
	c.t.Helper()
	return c.alive()[0].mustService("token", "create")
}

// alive are the peers whose processes run.
func (c *testCluster) alive() []*testPeer {
	c.t.Helper()
	var out []*testPeer
	for _, p := range c.peers {
		if p.running() {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		c.t.Fatal("no peer runs")
	}
	return out
}

// waitWhole waits until the peers that run see one another as up, as many as
// shall vote do, and they agree on who leads.
func (c *testCluster) waitWhole() {
	c.t.Helper()
	alive := c.alive()
	eventually(c.t, startTime, "the cluster is whole", func(ctx context.Context) error {
		leaders := map[peer.ID]bool{}
		for _, p := range alive {
			up, voting := 0, 0
			for id, err := range p.rest.Peers(ctx) {
				if err != nil {
					return fmt.Errorf("ask %s: %w", p.name, err)
				}
				if id.State == api.PeerUp && id.Error == "" {
					up++
					if id.Role != "learner" {
						voting++
					}
				}
				if id.Role == "leader" {
					leaders[id.ID] = true
				}
			}
			if want := votersAmong(len(alive)); up < len(alive) || voting < want {
				return fmt.Errorf("%s sees %d peers up of %d, and %d of %d vote", p.name, up, len(alive), voting, want)
			}
		}
		if len(leaders) != 1 {
			return fmt.Errorf("%d peers call themselves leader", len(leaders))
		}
		return nil
	})
}

// votersAmong is how many of so many peers vote by default: five at most, and an
// odd number but for two.
func votersAmong(peers int) int {
	n := min(peers, 5)
	if n == 4 {
		n = 3
	}
	return n
}

// leader waits until one of the running peers says that it leads.
func (c *testCluster) leader() *testPeer {
	c.t.Helper()
	var found *testPeer
	eventually(c.t, startTime, "a leader", func(ctx context.Context) error {
		for _, p := range c.alive() {
			if id, err := p.rest.ID(ctx); err == nil && id.Role == "leader" {
				found = p
				return nil
			}
		}
		return errors.New("no peer says that it leads")
	})
	return found
}

// pinset is a peer's whole pinset: the JSON of every pin, by CID.
func (p *testPeer) pinset(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	var last api.Cid
	for pin, err := range p.rest.Allocations(ctx, api.PinFilter{}) {
		if err != nil {
			return nil, fmt.Errorf("list the pinset of %s: %w", p.name, err)
		}
		if last.Defined() && last.KeyString() >= pin.Cid.KeyString() {
			return nil, fmt.Errorf("%s lists %s after %s", p.name, pin.Cid, last)
		}
		last = pin.Cid
		text, err := json.Marshal(pin)
		if err != nil {
			return nil, err
		}
		out[pin.Cid.String()] = string(text)
	}
	return out, nil
}

// samePinset waits until all running peers have one pinset, to the byte of
// every pin, and returns it.
func (c *testCluster) samePinset(limit time.Duration) map[string]string {
	c.t.Helper()
	var common map[string]string
	eventually(c.t, limit, "the same pinset on every peer", func(ctx context.Context) error {
		common = nil
		for _, p := range c.alive() {
			pins, err := p.pinset(ctx)
			if err != nil {
				return err
			}
			if common == nil {
				common = pins
				continue
			}
			if err := samePins(common, pins); err != nil {
				return fmt.Errorf("%s and %s: %w", c.alive()[0].name, p.name, err)
			}
		}
		return nil
	})
	return common
}

func samePins(a, b map[string]string) error {
	for c, pin := range a {
		if other, ok := b[c]; !ok {
			return fmt.Errorf("%d and %d pins; %s is on the first only", len(a), len(b), c)
		} else if other != pin {
			return fmt.Errorf("the pins of %s differ:\n%s\n%s", c, pin, other)
		}
	}
	for c := range b {
		if _, ok := a[c]; !ok {
			return fmt.Errorf("%d and %d pins; %s is on the second only", len(a), len(b), c)
		}
	}
	return nil
}

// logLines returns the lines of a peer's log that hold a text.
func (p *testPeer) logLines(text string) []string {
	p.t.Helper()
	f, err := os.Open(p.logAt)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	var out []string
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			out = append(out, lines.Text())
		}
	}
	return out
}

// noPanic fails the test when a peer's log holds a panic or a data race.
func (c *testCluster) noPanic() {
	c.t.Helper()
	for _, p := range c.peers {
		for _, mark := range []string{"panic:", "fatal error:", "DATA RACE", "goroutine 1 ["} {
			if lines := p.logLines(mark); len(lines) > 0 {
				c.t.Errorf("%s: %s", p.name, lines[0])
			}
		}
	}
}
