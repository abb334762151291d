//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

const tokenPrefix = "holdfast1."

// edit changes what is in a join token, as somebody would who has no right to.
func edit(t *testing.T, token string, change func(map[string]any)) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(token, tokenPrefix))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	change(fields)
	if raw, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// A token admits one peer, once, in time, to its own cluster.
func TestTokens(t *testing.T) {
	c := newCluster(t, 1, nil)
	first := c.peers[0]
	other := newPeer(t, t.TempDir(), "other", nil)
	other.mustService("init", "--private")
	other.startReady()

	good := c.token()
	foreign := other.mustService("token", "create")
	soon := time.Now().Add(2 * time.Second)
	short := first.mustService("token", "create", "--ttl", "1s")
	used := c.token()
	user := newPeer(t, c.base, "user", nil)
	user.mustService("join", "--private", used)
	user.mustService("join", "--private", used) // its first answer may have been lost
	pause(t.Context(), time.Until(soon))
	var secret any
	edit(t, foreign, func(f map[string]any) { secret = f["secret"] })
	later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)

	cases := []struct {
		name, token string
		want        []string
	}{
		{"no token at all", "hello", []string{"not a join token", "token create"}},
		{"cut off", good[:len(good)/2], []string{"damaged"}},
		{"one letter wrong", good[:20] + "!" + good[21:], []string{"damaged"}},
		{"expired", short, []string{"expired", "token create"}},
		{"expired, with a later date written into it", edit(t, short, func(f map[string]any) { f["expires"] = later }), []string{"expired"}},
		{"used by another", used, []string{"used"}},
		{"a credential of one's own", edit(t, good, func(f map[string]any) { f["credential"] = strings.Repeat("ab", 32) }), []string{"not admitted"}},
		{"the secret of another cluster", edit(t, good, func(f map[string]any) { f["secret"] = secret }), []string{"not admitted", "secret"}},
		{"the name of another cluster", edit(t, good, func(f map[string]any) { f["cluster"] = strings.Repeat("0", 32) }), []string{"cluster"}},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			p := newPeer(t, t.TempDir(), "new", nil)
			out, err := p.service("join", "--private", test.token)
			if exitCode(err) != 1 {
				t.Fatalf("exit %d\n%s", exitCode(err), out)
			}
			for _, want := range test.want {
				if !strings.Contains(out, want) {
					t.Errorf("the message does not say %q:\n%s", want, out)
				}
			}
			if strings.Contains(out, "panic") {
				t.Error(out)
			}
			if _, err := os.Stat(filepath.Join(p.dir, "cluster.json")); err == nil {
				t.Error("a peer that was refused has a cluster")
			}
		})
	}
	if out, err := first.service("token", "create", "--ttl", "800h"); exitCode(err) != 1 || !strings.Contains(out, "720h") {
		t.Errorf("a token for ever: %v\n%s", err, out)
	}
	if out, err := first.service("join", good); exitCode(err) != 1 || !strings.Contains(out, "--dir") {
		t.Errorf("a running peer joins: %v\n%s", err, out)
	}
	if n := len(c.members()); n != 2 {
		t.Errorf("the cluster has %d members; two have a right to it", n)
	}
	user.startReady()
	c.peers = append(c.peers, user)
	c.waitWhole()
}

// Flags may stand after the token, and the token may come from standard input.
func TestJoinCommandLine(t *testing.T) {
	c := newCluster(t, 1, nil)
	p := newPeer(t, c.base, "new", nil)
	p.mustService("join", c.token(), "--private", "--dir", p.dir)
	p.startReady()
	c.peers = append(c.peers, p)
	c.waitWhole()
}

func (c *testCluster) members() []api.ID {
	c.t.Helper()
	var out []api.ID
	for id, err := range c.alive()[0].rest.Peers(c.t.Context()) {
		if err != nil {
			c.t.Fatal(err)
		}
		out = append(out, id)
	}
	return out
}

// A peer that is removed takes no part any more, what it held is held
// elsewhere, and a new one can take its place.
func TestPeersRemove(t *testing.T) {
	c := newCluster(t, 3, map[string]string{"CLUSTER_REPAIR_BELOW_MAX_GRACE": "1h"})
	leaving := c.leader() // the hardest: it has to hand over first
	var rest []*testPeer
	for _, p := range c.peers {
		if p != leaving {
			rest = append(rest, p)
		}
	}
	params := api.NewAddParams()
	params.ReplicationFactorMin, params.ReplicationFactorMax = 1, 2
	params.UserAllocations = append(params.UserAllocations, leaving.id)
	root, err := leaving.addBytes(t.Context(), []byte(strings.Repeat("stays ", 1<<18)), params)
	if err != nil {
		t.Fatal(err)
	}
	c.waitTwoCopies(root)
	step := stopwatch(t)
	rest[0].mustCtl(time.Minute, "peers", "rm", leaving.id.String())
	step("removed")
	gone := leaving
	c.peers = rest
	c.waitWhole()
	step("whole without it")
	if n := len(c.members()); n != 2 {
		t.Errorf("there are %d members after the removal", n)
	}
	pinned := c.waitTwoCopies(root)
	step("held by " + names(pinned))
	for _, p := range rest {
		if _, err := p.refs(t.Context(), root.String()); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if _, err := gone.rest.Pin(ctx, rawCid(t, 7, 7), api.PinOptions{}); err == nil {
		t.Error("a removed peer accepted a pin")
	}
	step("refused to pin through it")
	if out, problems, err := rest[0].ctl(time.Minute, "peers", "rm", gone.id.String()); exitCode(err) != 2 || !strings.Contains(problems, "not a peer") {
		t.Errorf("removed twice: %v %s%s", err, out, problems)
	}
	if gone.running() {
		if _, err := gone.stop(30 * time.Second); err != nil {
			t.Errorf("a removed peer stopped with %v", err)
		}
	}
	step("stopped it")
	p := c.join("peer9", nil)
	p.waitReady(startTime)
	c.waitWhole()
	c.samePinset(30 * time.Second)
	c.noPanic()
}
