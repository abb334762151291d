//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/api"
)

// questionTime is for a question that waits once for a peer that does not
// answer (5 s), on a busy machine. One that waits for each pin takes minutes.
const questionTime = 20 * time.Second

// A peer that stands still costs a question about many pins one wait and not one
// for each, and its part of the answer says that it did not answer.
func TestStoppedPeerInLists(t *testing.T) {
	c := newCluster(t, 3, map[string]string{"CLUSTER_REPLICATION_MIN": "-1", "CLUSTER_REPLICATION_MAX": "-1"})
	const pins = 100
	var cids []api.Cid
	for i := range uint64(pins) {
		cids = append(cids, rawCid(t, 5, i))
		if _, err := c.peers[0].rest.Pin(t.Context(), cids[i], api.PinOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.samePinset(time.Minute)
	leader := c.leader()
	var stopped *testPeer
	var asked []*testPeer // the leader, and one that is not
	for _, p := range c.peers {
		if stopped == nil && p != leader {
			stopped = p
		} else {
			asked = append(asked, p)
		}
	}
	stopped.signal(syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(t.Context(), questionTime)
	defer cancel()
	var questions sync.WaitGroup
	for _, p := range asked {
		questions.Go(func() { p.marks(ctx, stopped, "GET /pins?cids=", api.StatusQuery{Cids: cids}, pins) })
		questions.Go(func() { p.marks(ctx, stopped, "GET /pins", api.StatusQuery{}, pins) })
		questions.Go(func() {
			if n, err := p.service100(ctx); err != nil || n != pins {
				t.Errorf("%s: the Pinning Service lists %d pins of %d: %v", p.name, n, pins, err)
			}
		})
	}
	questions.Wait()
	stopped.signal(syscall.SIGCONT)
	c.waitWhole()
	c.noPanic()
}

// marks checks that a list is whole, and says of each pin that one peer did not answer.
func (p *testPeer) marks(ctx context.Context, stopped *testPeer, question string, query api.StatusQuery, want int) {
	n := 0
	for info, err := range p.rest.StatusAll(ctx, query) {
		if err != nil {
			p.t.Errorf("%s: %s, after %d pins: %v", p.name, question, n, err)
			return
		}
		n++
		if got := info.PeerMap[stopped.id.String()].Status; got != api.StatusClusterError {
			p.t.Errorf("%s: %s: %s is %q with the peer that stands still", p.name, question, info.Cid, got)
			return
		}
		if got := info.PeerMap[p.id.String()].Status; got == api.StatusClusterError || got == api.StatusUndefined {
			p.t.Errorf("%s: %s: %s is %q with the peer that was asked", p.name, question, info.Cid, got)
			return
		}
	}
	if n != want {
		p.t.Errorf("%s: %s lists %d pins of %d", p.name, question, n, want)
	}
}

// service100 asks the Pinning Service for up to a hundred pins.
func (p *testPeer) service100(ctx context.Context) (int, error) {
	url := fmt.Sprintf("http://127.0.0.1:%d/pins?limit=100&status=queued,pinning,pinned,failed", p.ports.pinsvc)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	var list struct{ Results []json.RawMessage }
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil || response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("status %d: %w", response.StatusCode, err)
	}
	return len(list.Results), nil
}
