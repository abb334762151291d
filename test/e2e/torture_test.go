//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/api"
)

// tortureRound is how long the peers are tormented between two checks.
const tortureRound = 25 * time.Second

// TestTorture kills, freezes and restarts real peers under load, damages their
// disks one at a time and floods them with connections, for the time that TORTURE
// says (two minutes), and checks again and again that the pinset is what the
// acknowledged writes made of it, on every peer (INV-ACK, INV-HASH), and that every
// acknowledged file can be read, and never as another (INV-BYTES).
func TestTorture(t *testing.T) {
	length := 2 * time.Minute
	if text := os.Getenv("TORTURE"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatalf("TORTURE: %v", err)
		}
	}
	random := seeded(t)
	c := newCluster(t, 3, ackedSettings)
	load := newWriters(c, 24, random.Uint64())
	files := &spreadUploads{peers: c.peers, acked: map[string][]byte{}}
	for _, p := range c.peers {
		p.files = floodNofile // from the next start on
	}
	end := time.Now().Add(length)
	lap := stopwatch(t)
	for round := 1; time.Now().Before(end); round++ {
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { load.run(ctx) })
		work.Go(func() { files.run(ctx, rand.New(rand.NewPCG(random.Uint64(), 0))) })
		deeds := c.torment(random, min(tortureRound, time.Until(end)))
		lap("torment")
		cancel()
		work.Wait()
		lap("the last answers")
		t.Logf("round %d: %s", round, strings.Join(deeds, ", "))
		c.waitWhole()
		pinset := c.samePinset(time.Minute)
		load.check(pinset)
		files.check(pinset)
		lap("the checks")
		if t.Failed() {
			return
		}
		t.Logf("%d writes and %d files acknowledged, %d other answers, %d pins on every peer",
			load.acknowledged, len(files.acked), load.others, len(pinset))
	}
	c.noPanic()
}

// torment does one bad thing after the other for a time, and leaves all peers
// running.
func (c *testCluster) torment(random *rand.Rand, length time.Duration) (deeds []string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), length)
	defer cancel()
	any := func() *testPeer { return c.peers[random.IntN(len(c.peers))] }
	some := func(limit time.Duration) { pause(ctx, time.Duration(random.Int64N(int64(limit)))) }
	for ctx.Err() == nil {
		some(2 * time.Second)
		victim := any()
		deed := random.IntN(8)
		if deed == 0 || deed == 1 {
			victim = c.leader()
		}
		switch deed {
		case 0, 2: // the power of one machine fails
			deeds = append(deeds, "kill "+victim.name)
			victim.kill()
			some(1500 * time.Millisecond)
			victim.start()
		case 1, 3: // it hangs, and wakes up with its old view of the world
			deeds = append(deeds, "freeze "+victim.name)
			victim.signal(syscall.SIGSTOP)
			some(5 * time.Second)
			victim.signal(syscall.SIGCONT)
		case 4:
			deeds = append(deeds, "restart "+victim.name)
			if _, err := victim.stop(startTime); err != nil {
				c.t.Errorf("%s: %v", victim.name, err)
			}
			victim.start()
		case 5: // the power of the building fails
			deeds = append(deeds, "kill all")
			c.powerCut()
		case 6: // a disk goes bad, and reads right again some time later
			victim.kill()
			damage := victim.damageDisk(random)
			victim.start()
			if damage != nil {
				deeds = append(deeds, "damage "+damage.String())
				some(8 * time.Second)
				damage.heal()
			}
		case 7: // somebody opens connections
			deeds = append(deeds, fmt.Sprintf("flood %s with %d connections", victim.name, victim.flood(ctx, time.Second)))
		}
		for _, p := range c.peers {
			p.waitReady(startTime)
		}
	}
	return deeds
}

// writers pin and unpin. A CID belongs to one of them, who repeats each request
// under its key until it is answered, so that what must be in the pinset is
// known exactly.
type writers struct {
	t     *testing.T
	peers []*testPeer
	dice  []*rand.Rand // one for each client
	seed  uint64

	mu                   sync.Mutex
	names                map[string]string // by CID: what its pin is called; "": it has none
	acknowledged, others int
}

// keysEach is how many CIDs a client has: few, so that each changes often.
const keysEach = 50

func newWriters(c *testCluster, clients int, seed uint64) *writers {
	w := &writers{t: c.t, peers: c.peers, seed: seed, names: map[string]string{}}
	for k := range clients {
		w.dice = append(w.dice, rand.New(rand.NewPCG(seed, uint64(k))))
	}
	return w
}

func (w *writers) run(ctx context.Context) {
	var running sync.WaitGroup
	for k := range w.dice {
		running.Go(func() {
			for ctx.Err() == nil {
				w.write(k)
			}
		})
	}
	running.Wait()
}

// write is one pin or unpin, repeated until it is answered. It goes on when the
// load ends, because an operation that nobody knows the end of proves nothing.
func (w *writers) write(k int) {
	dice := w.dice[k]
	c := rawCid(w.t, w.seed, uint64(k*keysEach+dice.IntN(keysEach))).String()
	name := fmt.Sprintf("%d-%x", k, dice.Uint64())
	key, next := name, name
	method, query := http.MethodPost, "?name="+url.QueryEscape(name)
	if dice.IntN(3) == 0 {
		method, query, next = http.MethodDelete, "", ""
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Minute)
	defer cancel()
	for {
		status, err := w.peers[dice.IntN(len(w.peers))].write(ctx, method, "/pins/"+c+query, key)
		done := err == nil && (status == http.StatusOK || method == http.MethodDelete && status == http.StatusNotFound)
		w.mu.Lock()
		if done {
			w.names[c] = next
			w.acknowledged++
		} else {
			w.others++
		}
		w.mu.Unlock()
		if done {
			return
		}
		pause(ctx, 20*time.Millisecond) // its process may be starting
		if ctx.Err() != nil {
			w.t.Errorf("%s of %s was not answered in two minutes; last: status %d, %v", method, c, status, err)
			return
		}
	}
}

// write asks for a change with an Idempotency-Key.
func (p *testPeer) write(ctx context.Context, method, target, key string) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, fmt.Sprintf("http://127.0.0.1:%d%s", p.ports.rest, target), nil)
	if err != nil {
		return 0, err
	}
	request.Header.Set("Idempotency-Key", key)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

// check compares the pinset with what was acknowledged.
func (w *writers) check(pinset map[string]string) {
	w.t.Helper()
	wrong := 0
	for c, want := range w.names {
		got := ""
		if text, ok := pinset[c]; ok {
			var pin api.Pin
			if err := json.Unmarshal([]byte(text), &pin); err != nil {
				w.t.Fatal(err)
			}
			got = pin.Name
		}
		if got != want {
			if wrong++; wrong <= 5 {
				w.t.Errorf("INV-ACK: %s is pinned as %q; the acknowledged writes left %q", c, got, want)
			}
		}
	}
	if wrong > 0 {
		w.t.Errorf("INV-ACK: %d CIDs are not what the acknowledged writes made of them", wrong)
	}
}

// spreadUploads adds files through whichever peer answers.
type spreadUploads struct {
	peers []*testPeer
	acked map[string][]byte // by CID: the content
	fresh []string          // acknowledged since the last check
}

func (u *spreadUploads) run(ctx context.Context, random *rand.Rand) {
	for ; ctx.Err() == nil; pause(ctx, 200*time.Millisecond) { // reading them back takes longer than writing them
		content := make([]byte, random.IntN(1<<19))
		for i := range content {
			content[i] = byte(random.Uint32())
		}
		c, err := u.peers[random.IntN(len(u.peers))].addBytes(ctx, content, api.NewAddParams())
		if err != nil {
			continue
		}
		u.acked[c.String()] = content
		u.fresh = append(u.fresh, c.String())
		u.readBack(ctx, random)
	}
}

// check reads the new files back from the stores of the peers that hold them,
// without help from any other. One copy is what was acknowledged.
func (u *spreadUploads) check(pinset map[string]string) {
	t := u.peers[0].t
	t.Helper()
	for c := range u.acked {
		if _, ok := pinset[c]; !ok {
			t.Errorf("INV-ACK: the file %s was acknowledged and is not pinned", c)
		}
	}
	twice := 0
	for _, c := range u.fresh {
		eventually(t, startTime, "a copy of "+c, func(ctx context.Context) error {
			copies, problems := 0, []error(nil)
			for _, p := range u.peers {
				got, err := p.cat(ctx, c)
				if err != nil {
					problems = append(problems, err)
					continue
				}
				if !bytes.Equal(got, u.acked[c]) {
					t.Fatalf("the file %s of %d bytes came back from %s as %d others", c, len(u.acked[c]), p.name, len(got))
				}
				copies++
			}
			if copies == 0 {
				return errors.Join(problems...)
			}
			if copies > 1 {
				twice++
			}
			return nil
		})
	}
	t.Logf("%d of %d new files are on two peers", twice, len(u.fresh))
	u.fresh = nil
}
