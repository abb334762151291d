//go:build e2e

package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// rawCid is the CID of a raw block that nobody has.
func rawCid(t *testing.T, seed, n uint64) api.Cid {
	t.Helper()
	var text [16]byte
	binary.BigEndian.PutUint64(text[:8], seed)
	binary.BigEndian.PutUint64(text[8:], n)
	digest := sha256.Sum256(text[:])
	hash, err := multihash.Encode(digest[:], multihash.SHA2_256)
	if err != nil {
		t.Fatal(err)
	}
	return api.NewCid(cid.NewCidV1(cid.Raw, hash))
}

// pinners pin CIDs from many clients at once.
type pinners struct {
	t       *testing.T
	peers   []*testPeer
	clients int
	seed    uint64

	mu     sync.Mutex
	acked  map[string]api.Pin // by CID: what the cluster said it stored
	failed map[api.Code]int   // answers that were no success, by code
}

// run pins n CIDs. Each is asked for again, of another peer, until it was
// acknowledged or ctx ended.
func (r *pinners) run(ctx context.Context, n uint64) {
	r.acked, r.failed = map[string]api.Pin{}, map[api.Code]int{}
	work := make(chan uint64)
	var workers sync.WaitGroup
	for k := range r.clients {
		workers.Go(func() {
			for i := range work {
				r.pin(ctx, rawCid(r.t, r.seed, i), k)
			}
		})
	}
	for i := uint64(0); i < n && ctx.Err() == nil; i++ {
		select {
		case work <- i:
		case <-ctx.Done():
		}
	}
	close(work)
	workers.Wait()
}

func (r *pinners) pin(ctx context.Context, c api.Cid, k int) {
	for attempt := k; ctx.Err() == nil; attempt++ {
		p := r.peers[attempt%len(r.peers)]
		one, cancel := context.WithTimeout(ctx, 20*time.Second)
		result, err := p.rest.Pin(one, c, api.PinOptions{Name: fmt.Sprintf("client %d", k)})
		cancel()
		r.mu.Lock()
		if err == nil {
			r.acked[c.String()] = result.Pin
			r.mu.Unlock()
			return
		}
		r.failed[api.CodeOf(err)]++
		r.mu.Unlock()
		pause(ctx, 20*time.Millisecond) // its process may be starting
	}
}

func (r *pinners) done() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.acked)
}

// check says what was acknowledged and is not in a pinset.
func (r *pinners) check(pinset map[string]string) {
	r.t.Helper()
	lost := 0
	for c := range r.acked {
		if _, ok := pinset[c]; !ok {
			if lost++; lost <= 5 {
				r.t.Errorf("%s was acknowledged and is in no pinset", c)
			}
		}
	}
	if lost > 0 {
		r.t.Errorf("%d of %d acknowledged pins are lost", lost, len(r.acked))
	}
	r.t.Logf("%d pins acknowledged, %d in the pinset; other answers: %v", len(r.acked), len(pinset), r.failed)
}

// ackedSettings keep a peer's failure from moving pins about: this is about
// what was acknowledged.
var ackedSettings = map[string]string{"CLUSTER_REPAIR_BELOW_MAX_GRACE": "1h"}

// What was acknowledged while leaders died is in every pinset.
func TestAcknowledgedPins(t *testing.T) {
	random := seeded(t)
	c := newCluster(t, 3, ackedSettings)
	r := &pinners{t: t, peers: c.peers, clients: 64, seed: random.Uint64()}
	const total, kills = 10_000, 5
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	ended := make(chan struct{})
	begun := time.Now()
	go func() {
		defer close(ended)
		r.run(ctx, total)
	}()
	for k := range kills {
		waitAcked(t, r, ended, total*(k+1)/(kills+2))
		pause(ctx, time.Duration(random.IntN(200))*time.Millisecond)
		leader := c.leader()
		leader.kill()
		pause(ctx, time.Duration(random.IntN(1500))*time.Millisecond)
		leader.startReady()
	}
	<-ended
	t.Logf("%d pins with %d kills in %s", r.done(), kills, time.Since(begun).Round(time.Millisecond))
	if r.done() != total {
		t.Errorf("%d of %d pins were acknowledged in time; other answers: %v", r.done(), total, r.failed)
	}
	c.waitWhole()
	pinset := c.samePinset(time.Minute)
	r.check(pinset)
	if len(pinset) != total {
		t.Errorf("the pinset has %d pins; %d CIDs were asked for", len(pinset), total)
	}
	c.noPanic()
}

// waitAcked waits until some pins were acknowledged.
func waitAcked(t *testing.T, r *pinners, ended <-chan struct{}, n int) {
	t.Helper()
	eventually(t, 2*time.Minute, fmt.Sprintf("%d pins are acknowledged", n), func(context.Context) error {
		select {
		case <-ended:
			return nil
		default:
		}
		if done := r.done(); done < n {
			return fmt.Errorf("%d are", done)
		}
		return nil
	})
}

// A leader that hangs is replaced, and when it wakes up it acknowledges nothing
// that the others do not know.
func TestFrozenLeader(t *testing.T) {
	random := seeded(t)
	c := newCluster(t, 3, ackedSettings)
	r := &pinners{t: t, peers: c.peers, clients: 32, seed: random.Uint64()}
	ended, stop := r.start()
	defer stop()
	for round := range 3 {
		waitAcked(t, r, ended, 200*(round+1))
		frozen := c.leader()
		frozen.signal(syscall.SIGSTOP)
		next := c.otherLeader(frozen)
		before := r.done()
		waitAcked(t, r, ended, before+50)
		frozen.signal(syscall.SIGCONT)
		eventually(t, 30*time.Second, frozen.name+" follows "+next.name, func(ctx context.Context) error {
			id, err := frozen.rest.ID(ctx)
			if err == nil && id.Role == "leader" {
				err = errors.New("it says that it leads")
			}
			return err
		})
	}
	stop()
	c.waitWhole()
	r.check(c.samePinset(time.Minute))
	c.noPanic()
}

// powerCut kills all peers at once, and starts them again.
func (c *testCluster) powerCut() {
	c.t.Helper()
	for _, p := range c.peers {
		p.signalKill()
	}
	for _, p := range c.peers {
		<-p.done
	}
	for _, p := range c.peers {
		p.start()
	}
}

// start pins until stop, which returns when no write is under way any more.
func (r *pinners) start() (ended <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.run(ctx, 1<<40)
	}()
	return done, func() {
		cancel()
		<-done
	}
}

// otherLeader waits until a peer leads that is not the given one.
func (c *testCluster) otherLeader(not *testPeer) *testPeer {
	c.t.Helper()
	var found *testPeer
	eventually(c.t, startTime, "a leader other than "+not.name, func(ctx context.Context) error {
		for _, p := range c.peers {
			if p == not {
				continue
			}
			if id, err := p.rest.ID(ctx); err == nil && id.Role == "leader" {
				found = p
				return nil
			}
		}
		return errors.New("none leads")
	})
	return found
}

// All peers are killed at the moment of the last acknowledgement: the power of
// the building fails.
func TestAcknowledgedPinsAllKilled(t *testing.T) {
	random := seeded(t)
	c := newCluster(t, 3, ackedSettings)
	for round := range 3 {
		r := &pinners{t: t, peers: c.peers, clients: 16 + random.IntN(48), seed: random.Uint64()}
		total := uint64(500 + random.IntN(1000))
		r.run(t.Context(), total)
		c.powerCut()
		for _, p := range c.peers {
			p.waitReady(startTime)
		}
		c.waitWhole()
		t.Logf("round %d", round)
		r.check(c.samePinset(time.Minute))
	}
	c.noPanic()
}

// Pins of one peer alone, which is killed at any instant while it works.
func TestKillMinusNineSinglePeer(t *testing.T) {
	random := seeded(t)
	c := newCluster(t, 1, nil)
	p := c.peers[0]
	files := newUploads(p)
	acked := map[string]api.Pin{}
	for round := range 20 {
		r := &pinners{t: t, peers: c.peers, clients: 8, seed: random.Uint64()}
		ctx, cancel := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() { r.run(ctx, 1<<40) })
		work.Go(func() { files.run(ctx, rand.New(rand.NewPCG(random.Uint64(), 0))) })
		pause(ctx, time.Duration(random.IntN(800))*time.Millisecond)
		p.kill()
		cancel()
		work.Wait()
		p.startReady()
		for c, pin := range r.acked {
			acked[c] = pin
		}
		pinset, err := p.settledPinset(t)
		if err != nil {
			t.Fatal(err)
		}
		for c := range acked {
			if _, ok := pinset[c]; !ok {
				t.Fatalf("round %d: %s was acknowledged and is not in the pinset", round, c)
			}
		}
		files.check(pinset)
	}
	t.Logf("%d pins and %d files acknowledged in 20 rounds", len(acked), len(files.acked))
	c.noPanic()
}

// settledPinset is the pinset once the peer leads again, so that everything
// acknowledged has to be in it.
func (p *testPeer) settledPinset(t *testing.T) (map[string]string, error) {
	t.Helper()
	eventually(t, startTime, p.name+" leads", func(ctx context.Context) error {
		id, err := p.rest.ID(ctx)
		if err == nil && id.Role != "leader" {
			err = fmt.Errorf("it is %q", id.Role)
		}
		return err
	})
	return p.pinset(t.Context())
}

// uploads adds files of random bytes to one peer.
type uploads struct {
	p     *testPeer
	acked map[string][]byte // by CID: the content
}

func newUploads(p *testPeer) *uploads { return &uploads{p: p, acked: map[string][]byte{}} }

// run adds files until ctx ends or an add fails, as it does when the peer is
// killed.
func (u *uploads) run(ctx context.Context, random *rand.Rand) {
	for ctx.Err() == nil {
		content := make([]byte, random.IntN(2<<20))
		for i := range content {
			content[i] = byte(random.Uint32())
		}
		c, err := u.p.addBytes(ctx, content, api.NewAddParams())
		if err != nil {
			return
		}
		u.acked[c.String()] = content
	}
}

// check reads every acknowledged file back from the peer's own store.
func (u *uploads) check(pinset map[string]string) {
	t := u.p.t
	t.Helper()
	for c, want := range u.acked {
		if _, ok := pinset[c]; !ok {
			t.Fatalf("the file %s was acknowledged and is not pinned", c)
		}
		got, err := u.p.cat(t.Context(), c)
		if err != nil {
			t.Fatalf("the file %s was acknowledged: %v", c, err)
		}
		if string(got) != string(want) {
			t.Fatalf("the file %s of %d bytes came back as %d others", c, len(want), len(got))
		}
	}
}
