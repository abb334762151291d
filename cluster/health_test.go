package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// brokenNode is an IPFS node that may be broken.
type brokenNode struct {
	fakeNode
	err error
}

func (n *brokenNode) Free(context.Context) (uint64, error) { return 1 << 30, n.err }

func names(reasons []api.Reason) (out []string) {
	for _, r := range reasons {
		out = append(out, r.Name)
	}
	return out
}

// A peer without a leader says so by itself, since when and what to do; so do
// its view of the others and its readiness. An election is nothing to alert.
func TestWithoutLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		c := w.cluster
		var cut atomic.Bool // the third peer
		c.connected = func(id peer.ID) bool { return id != testPeer(2) || !cut.Load() }
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go c.watchLeader(ctx)
		if ready := c.Readiness(ctx); !ready.Ready || len(ready.Reasons) != 0 {
			t.Errorf("all is well, and the peer is %+v", ready)
		}
		if id, err := c.LocalID(ctx); err != nil || len(id.Reachable) != 2 || len(id.Alerts) != 0 || id.FreeBytes == nil || *id.FreeBytes != 1<<30 {
			t.Errorf("all is well, and the peer is %+v, %v", id, err)
		}
		lost := time.Now()
		w.setLeader("")
		cut.Store(true)
		time.Sleep(time.Second)
		if got := c.Alerts(); len(got) != 0 {
			t.Errorf("an election is an alert: %+v", got)
		}
		if got := names(c.Readiness(ctx).Reasons); !slices.Equal(got, []string{api.AlertNoLeader}) {
			t.Errorf("within an election the peer is not ready because of %v", got)
		}
		time.Sleep(10 * time.Second)
		for i := range w.view {
			w.change(i, func(view *api.PeerView) { view.State, view.Silent = api.PeerUnknown, 11*time.Second })
		}
		alerts := c.Alerts()
		if len(alerts) != 1 || alerts[0].Name != api.AlertNoLeader || alerts[0].Peer != testPeer(0) || alerts[0].TriggeredAt.Sub(lost).Abs() > time.Second ||
			!strings.Contains(alerts[0].Message, "of 3 voters 2 must") || !strings.Contains(alerts[0].Message, "peer2") || strings.Contains(alerts[0].Message, "peer1") {
			t.Errorf("without a leader the alerts are %+v", alerts)
		}
		time.Sleep(time.Minute)
		if again := c.Alerts(); len(again) != 1 || !again[0].TriggeredAt.Equal(alerts[0].TriggeredAt) {
			t.Errorf("the alert began %v, and later %+v", alerts[0].TriggeredAt, again)
		}
		id, err := c.LocalID(ctx)
		if err != nil || !slices.Equal(id.Reachable, []peer.ID{testPeer(1)}) || !slices.Equal(id.Alerts, []string{api.AlertNoLeader}) || id.State != api.PeerUnknown {
			t.Errorf("without a leader the peer is %+v, %v", id, err)
		}
		other := api.ID{ID: testPeer(2)}
		c.judge(&other, alerts)
		if other.State != api.PeerUnknown || other.HeardSeconds == nil || *other.HeardSeconds != 11 || other.Lag != nil || len(other.Alerts) != 0 {
			t.Errorf("of another is known %+v", other)
		}
		w.setLeader(testPeer(0))
		time.Sleep(time.Second)
		if got := c.Alerts(); len(got) != 0 {
			t.Errorf("there is a leader again, and alerts are %+v", got)
		}
	})
}

// A leader that is known and does not answer is none.
// A peer whose log takes long to open leads a moment later, and is not without a
// leader meanwhile.
func TestLeaderAfterALongStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, nil)
		c := w.cluster
		members := w.members
		w.members, w.leader = nil, ""
		ctx, cancel := context.WithCancel(t.Context())
		defer synctest.Wait()
		defer cancel()
		go c.watchLeader(ctx)
		quiet := func(d time.Duration) {
			t.Helper()
			for range d / (100 * time.Millisecond) {
				time.Sleep(100 * time.Millisecond)
				if got := c.Alerts(); len(got) != 0 {
					t.Fatalf("right after its start: %+v", got)
				}
			}
		}
		quiet(time.Minute) // raft reads its log
		w.mu.Lock()
		w.members = members
		w.mu.Unlock()
		quiet(2 * time.Second) // the election
		w.setLeader(testPeer(0))
		quiet(10 * time.Second)
		w.setLeader("")
		time.Sleep(2 * electionTime)
		if got := c.Alerts(); len(got) != 1 || got[0].Name != api.AlertNoLeader {
			t.Fatalf("without a leader: %+v", got)
		}
	})
}

func TestLeaderThatDoesNotAnswer(t *testing.T) {
	w := newWorld(t, 3, nil)
	w.setLeader(testPeer(1))
	for _, c := range []struct {
		confirmed time.Duration
		ready     bool
	}{{2 * time.Second, true}, {time.Minute, false}, {-1, false}} {
		w.mu.Lock()
		w.confirmed = c.confirmed
		w.mu.Unlock()
		if got := w.cluster.Readiness(t.Context()); got.Ready != c.ready || !c.ready && got.Reasons[0].Name != api.AlertNoLeader {
			t.Errorf("confirmed %s ago: %+v", c.confirmed, got)
		}
	}
}

// What keeps a peer from taking writes makes it unready; other alerts do not.
func TestReadiness(t *testing.T) {
	w := newWorld(t, 1, nil)
	node := &brokenNode{}
	w.cluster.node = node
	var wrong []api.Condition
	w.cluster.conditions.tell = func() []api.Condition { return slices.Clone(wrong) }
	for _, c := range []struct {
		name  string
		wrong []api.Condition
		node  error
		want  []string
	}{
		{"all is well", nil, nil, nil},
		{"something that hinders no write", []api.Condition{{Name: api.AlertDiskLow}}, nil, nil},
		{"the folder", []api.Condition{{Name: api.AlertFolder}}, nil, []string{api.AlertFolder}},
		{"the node", nil, errors.New("repository is gone"), []string{api.AlertIPFS}},
		{"both", []api.Condition{{Name: api.AlertFolder}}, errors.New("repository is gone"), []string{api.AlertFolder, api.AlertIPFS}},
	} {
		wrong, node.err = c.wrong, c.node
		got := w.cluster.Readiness(t.Context())
		if !slices.Equal(names(got.Reasons), c.want) || got.Ready != (c.want == nil) || (got.Err() == nil) != got.Ready {
			t.Errorf("%s: %+v, %v", c.name, got, got.Err())
		}
		told := slices.ContainsFunc(w.cluster.Alerts(), func(a api.Alert) bool { return a.Name == api.AlertIPFS })
		if told != (c.node != nil) {
			t.Errorf("%s: alerts %+v", c.name, w.cluster.Alerts())
		}
	}
}
