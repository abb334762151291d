//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

// A peer that comes back with its old folder after the cluster has gone on
// without it is not left to wonder why: first after a recovery on another peer,
// then after 'peers rm'.
func TestReturnOfAFormerMember(t *testing.T) {
	c := newCluster(t, 3, nil)
	former, survivor := c.peers[0], c.peers[2]
	for _, p := range c.peers {
		p.kill()
	}
	survivor.mustService("recover", "--force-new-cluster", "--yes")
	c.peers = []*testPeer{survivor}
	survivor.startReady()
	former.start()
	c.saysItIsOutside(former, "cluster-service recover", survivor.id.String(), "join TOKEN")

	for _, name := range []string{"peer3", "peer4"} {
		c.join(name, nil).waitReady(startTime)
	}
	c.waitWhole()
	removed := c.peers[2]
	removed.kill()
	survivor.mustCtl(time.Minute, "peers", "rm", removed.id.String())
	c.peers = c.peers[:2]
	removed.start()
	c.saysItIsOutside(removed, "peers rm", "join TOKEN")

	if _, err := former.stop(startTime); err != nil {
		t.Errorf("%s stopped with %v", former.name, err)
	}
	for _, p := range []*testPeer{former, removed} {
		if lines := p.logLines("takes no part in its cluster"); len(lines) != 1 {
			t.Errorf("%s says it %d times in its log", p.name, len(lines))
		}
	}
	former.mustService("state", "export", "--out", former.dir+".ndjson")
	c.waitWhole()
	c.noPanic()
}

// saysItIsOutside waits until a peer says why it has no part in its cluster,
// wherever an operator looks.
func (c *testCluster) saysItIsOutside(p *testPeer, want ...string) {
	c.t.Helper()
	all := append(want, "not a member of its cluster any more")
	lacks := func(text string) error {
		for _, w := range all {
			if !strings.Contains(text, w) {
				return fmt.Errorf("%q is not in %q", w, text)
			}
		}
		return nil
	}
	eventually(c.t, time.Minute, p.name+" says that it is no member", func(ctx context.Context) error {
		err := p.rest.Ready(ctx)
		if api.CodeOf(err) != api.CodeUnavailable {
			return fmt.Errorf("its readiness: %w", errors.Join(err, p.exit))
		}
		return lacks(err.Error())
	})
	if out, err := p.service("health"); exitCode(err) != 1 || lacks(out) != nil {
		c.t.Errorf("cluster-service health: %v\n%s", err, out)
	}
	for _, command := range [][]string{{"id"}, {"peers", "ls"}} {
		if out, problems, err := p.ctl(time.Minute, command...); exitCode(err) != 2 || lacks(problems) != nil {
			c.t.Errorf("%s of %s: %v\n%s%s", command, p.name, err, out, problems)
		}
	}
	for path, want := range map[string]int{"/health": http.StatusNoContent, "/health/ready": http.StatusServiceUnavailable, "/health/alerts": http.StatusOK} {
		eventually(c.t, startTime, fmt.Sprintf("%d at %s of %s", want, path, p.name), func(context.Context) error {
			resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", p.ports.rest, path))
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != want {
				return errors.New(resp.Status)
			}
			return nil
		})
	}
}
