package monitor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// net is a cluster of monitors that reach one another unless cut off.
type net struct {
	t        *testing.T
	mu       sync.Mutex
	leader   peer.ID
	members  []peer.ID
	monitors map[peer.ID]*Monitor
	cut      map[peer.ID]bool
	broken   map[peer.ID]string // NodeError
	events   []string
	failures int
	began    time.Time
}

func newNet(t *testing.T, ids ...peer.ID) *net {
	n := &net{t: t, members: ids, monitors: map[peer.ID]*Monitor{}, cut: map[peer.ID]bool{},
		broken: map[peer.ID]string{}, began: time.Now()}
	for _, id := range ids {
		n.add(id)
	}
	return n
}

func (n *net) add(id peer.ID) {
	n.monitors[id] = New(Config{Self: id}, Deps{
		Sender: sender{n, id},
		Collect: func(context.Context) api.PeerReport {
			n.mu.Lock()
			defer n.mu.Unlock()
			return api.PeerReport{Name: "peer " + string(id), NodeError: n.broken[id]}
		},
		Leader: func() (peer.ID, bool) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.leader, n.leader != ""
		},
		Members: func() []peer.ID {
			n.mu.Lock()
			defer n.mu.Unlock()
			return slices.Clone(n.members)
		},
		Events: Events{
			StateChanged: func(view api.PeerView, before api.PeerState) {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.events = append(n.events, fmt.Sprintf("%s: %s %s>%s", string(id), string(view.Report.Peer), before, view.State))
			},
			ReportFailed: func(error) {
				n.mu.Lock()
				defer n.mu.Unlock()
				n.failures++
			},
		},
	})
}

func (n *net) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, m := range n.monitors {
		running.Go(func() {
			if err := m.Run(ctx); err != nil {
				n.t.Error(err)
			}
		})
	}
	return func() { cancel(); running.Wait() }
}

// do changes the network under its lock.
func (n *net) do(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// after waits and returns the events since the last time.
func (n *net) after(d time.Duration) []string {
	time.Sleep(d)
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	events := n.events
	n.events = nil
	slices.Sort(events)
	return events
}

func (n *net) expect(d time.Duration, want ...string) {
	n.t.Helper()
	if got := n.after(d); !slices.Equal(got, want) {
		n.t.Fatalf("after %s more: events %q, want %q", d, got, want)
	}
}

func (n *net) states(id peer.ID) string {
	out := ""
	for _, view := range n.monitors[id].View() {
		out += fmt.Sprintf("%s %s ", string(view.Report.Peer), view.State)
	}
	return out
}

func (n *net) expectStates(want string) {
	n.t.Helper()
	for _, id := range n.members {
		if got := n.states(id); got != want {
			n.t.Fatalf("%s sees %q, want %q", id, got, want)
		}
	}
}

type sender struct {
	n    *net
	from peer.ID
}

func (s sender) Report(ctx context.Context, to peer.ID, report api.PeerReport) (api.Digest, error) {
	s.n.mu.Lock()
	gone := s.n.cut[s.from] || s.n.cut[to]
	m := s.n.monitors[to]
	s.n.mu.Unlock()
	if gone {
		return api.Digest{}, api.Errorf(api.CodeUnavailable, "%s does not reach %s", s.from, to)
	}
	return m.Receive(ctx, s.from, report)
}

func bubble(t *testing.T, f func(t *testing.T)) { synctest.Test(t, f) }

func TestStates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNet(t, "a", "b", "c")
		defer n.run()()
		n.expect(5 * time.Second) // nobody leads: nothing happens
		n.do(func() { n.leader = "a" })
		n.expect(500*time.Millisecond, "a: a >suspect", "a: a suspect>up", "a: b >suspect", "a: b suspect>up",
			"a: c >suspect", "a: c suspect>up")
		n.after(2 * time.Second)
		n.expectStates("a up b up c up ")
		if view := n.monitors["c"].View()[1]; view.Report.Name != "peer b" {
			t.Fatalf("c knows of b: %+v", view)
		}
		n.do(func() { n.cut["b"] = true })
		n.expect(2900 * time.Millisecond)
		n.expect(2500*time.Millisecond, "a: b up>suspect")
		n.expect(3000*time.Millisecond, "a: b suspect>down")
		n.expect(time.Hour)
		if got, want := n.states("c"), "a up b down c up "; got != want {
			t.Fatalf("c sees %q, want %q", got, want)
		}
		// One report is not enough to be up again, two are.
		n.do(func() { n.cut["b"] = false })
		n.expect(2100 * time.Millisecond)
		n.expect(2000*time.Millisecond, "a: b down>up")
	})
}

func TestFlapping(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNet(t, "a", "b")
		n.leader = "a"
		defer n.run()()
		n.after(3 * time.Second)
		var events []string
		for range 100 { // one report comes through every eight seconds
			n.do(func() { n.cut["b"] = true })
			events = append(events, n.after(6*time.Second)...)
			n.do(func() { n.cut["b"] = false })
			events = append(events, n.after(2*time.Second)...)
		}
		if len(events) > 3 {
			t.Fatalf("a peer that flaps made %d events: %q", len(events), events)
		}
		if view := n.monitors["a"].View()[1]; view.State == api.PeerUp {
			t.Fatalf("a peer that flaps is %+v", view)
		}
		n.expect(5*time.Second, "a: b down>up")
	})
}

func TestBrokenNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNet(t, "a", "b")
		n.leader = "a"
		defer n.run()()
		n.after(3 * time.Second)
		n.do(func() { n.broken["a"], n.broken["b"] = "disk is gone", "disk is gone" })
		n.expect(3*time.Second, "a: a up>suspect", "a: b up>suspect")
		n.expect(time.Hour)
		n.do(func() { n.broken["a"], n.broken["b"] = "", "" })
		n.expect(5*time.Second, "a: a suspect>up", "a: b suspect>up")
	})
}

// A peer's node opens a while after the peer has begun to report. The first time
// that it works is enough; after it has worked once it has to prove itself.
func TestOpeningNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNet(t, "a", "b")
		n.leader, n.broken["a"], n.broken["b"] = "a", "not open", "not open"
		defer n.run()()
		n.expect(3*time.Second, "a: a >suspect", "a: b >suspect")
		n.do(func() { n.broken["a"], n.broken["b"] = "", "" })
		for _, id := range []peer.ID{"a", "b"} {
			if err := n.monitors[id].Report(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		n.expect(0, "a: a suspect>up", "a: b suspect>up")
		n.do(func() { n.broken["b"] = "broken" })
		n.expect(3*time.Second, "a: b up>suspect")
		n.do(func() { n.broken["b"] = "" })
		n.expect(1500 * time.Millisecond)
		n.expect(3*time.Second, "a: b suspect>up")
	})
}

func TestLeaderChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNet(t, "a", "b", "c", "d")
		n.leader = "a"
		n.cut["d"] = true
		defer n.run()()
		n.after(time.Minute)
		n.do(func() { n.leader, n.cut["a"] = "b", true })
		// The others report at once; d stays down without an event.
		n.expect(200 * time.Millisecond)
		if got, want := n.states("b"), "a up b up c up d down "; got != want {
			t.Fatalf("the new leader sees %q, want %q", got, want)
		}
		if got, want := n.states("c"), n.states("b"); got != want {
			t.Fatalf("a follower sees %q, want %q", got, want)
		}
		// The old leader has the whole of DownAfter.
		n.expect(7500 * time.Millisecond)
		n.expect(500*time.Millisecond, "b: a up>down")
		if _, err := n.monitors["a"].Receive(context.Background(), "b", api.PeerReport{Peer: "b"}); api.CodeOf(err) != api.CodeNoLeader {
			t.Fatalf("a report to the old leader: %v", err)
		}
		if n.failures == 0 {
			t.Fatal("the old leader's failed reports were not told")
		}
	})
}

func TestNeverHeard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNet(t, "a", "b")
		n.cut["b"], n.leader = true, "a"
		defer n.run()()
		n.expect(7900*time.Millisecond, "a: a >suspect", "a: a suspect>up", "a: b >suspect")
		n.expect(200*time.Millisecond, "a: b suspect>down")
	})
}

func TestMembership(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNet(t, "a", "b", "c")
		n.members, n.leader = []peer.ID{"a", "b"}, "a"
		defer n.run()()
		n.after(time.Second)
		changed := n.monitors["a"].Changed()
		n.do(func() { n.members = []peer.ID{"a", "b", "c"} })
		n.expect(3*time.Second, "a: c >suspect", "a: c suspect>up")
		select {
		case <-changed:
		default:
			t.Fatal("Changed did not tell of the new peer")
		}
		n.after(2 * time.Second)
		n.expectStates("a up b up c up ")
		n.do(func() { n.members = []peer.ID{"a", "c"} })
		n.expect(3 * time.Second)
		n.expectStates("a up c up ")
	})
}

func TestReceiveRefuses(t *testing.T) {
	n := newNet(t, "a", "b")
	n.leader = "a"
	for _, c := range []struct {
		name         string
		from, report peer.ID
		want         api.Code
	}{
		{"own report", "b", "b", ""},
		{"about somebody else", "b", "a", api.CodeForbidden},
		{"about nobody", "b", "", api.CodeForbidden},
		{"from a stranger", "x", "x", api.CodeForbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := n.monitors["a"].Receive(t.Context(), c.from, api.PeerReport{Peer: c.report})
			if api.CodeOf(err) != c.want {
				t.Fatalf("got %v, want code %q", err, c.want)
			}
		})
	}
	if got, want := n.states("a"), "a suspect b up "; got != want {
		t.Fatalf("after all: %q, want %q", got, want)
	}
}

// A leader that stood still must not think that the others did.
func TestSleepingLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNet(t, "a", "b")
		n.leader = "a"
		m := n.monitors["a"]
		report := func(id peer.ID) {
			if _, err := m.Receive(t.Context(), id, api.PeerReport{Peer: id}); err != nil {
				t.Fatal(err)
			}
		}
		report("a")
		report("b")
		look := func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.awake(time.Now())
			m.judge(true, n.members, time.Now())
		}
		look()
		time.Sleep(time.Minute)
		look()
		if got, want := n.states("a"), "a up b up "; got != want {
			t.Fatalf("after a sleep: %q, want %q", got, want)
		}
		for range 100 {
			time.Sleep(poll)
			look()
		}
		if got, want := n.states("a"), "a down b down "; got != want {
			t.Fatalf("after silence: %q, want %q", got, want)
		}
	})
}

// What the last leader said grows old: nobody is called up on its word for
// ever, and the time of the last reports stands still.
func TestNoLeaderAnyMore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNet(t, "a", "b", "c")
		n.leader = "a"
		if _, ever := n.monitors["c"].Confirmed(); ever {
			t.Error("before the first report a leader has confirmed it")
		}
		defer n.run()()
		n.after(6 * time.Second)
		heard := func() []time.Time {
			var out []time.Time
			for _, view := range n.monitors["c"].View() {
				out = append(out, time.Now().Add(-view.Silent))
			}
			return out
		}
		before := heard()
		n.do(func() { n.leader, n.cut["a"], n.cut["b"] = "", true, true })
		n.after(4 * time.Second)
		if got, want := n.states("c"), "a up b up c up "; got != want {
			t.Errorf("soon after: %q, want %q", got, want)
		}
		n.after(6 * time.Second)
		for _, id := range []peer.ID{"a", "c"} { // who led, and who did not
			if got, want := n.states(id), "a unknown b unknown c unknown "; got != want {
				t.Errorf("%s sees %q, want %q", id, got, want)
			}
		}
		if got := heard(); !slices.Equal(got, before) {
			t.Errorf("the last reports came at %v, and then at %v", before, got)
		}
		if age, ever := n.monitors["c"].Confirmed(); !ever || age < 10*time.Second || age > 13*time.Second {
			t.Errorf("a leader confirmed it %s ago, %v", age, ever)
		}
		// A new leader begins from what was known, not from "unknown".
		n.do(func() { n.leader, n.cut["b"] = "c", false })
		n.after(100 * time.Millisecond)
		if got, want := n.states("c"), "a up b up c up "; got != want {
			t.Errorf("the new leader begins with %q, want %q", got, want)
		}
		if age, _ := n.monitors["c"].Confirmed(); age != 0 {
			t.Errorf("a leader waits for itself for %s", age)
		}
	})
}
