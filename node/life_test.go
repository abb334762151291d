package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

func TestOpenAndCloseLeaksNothing(t *testing.T) {
	c := testConfig(t)
	goroutines := func() int {
		_, stop := startStoppable(t, c)
		stop()
		return settle()
	}
	goroutines() // what Kubo starts once for the process
	first := goroutines()
	const more = 18
	for range more {
		goroutines()
	}
	// Kubo v0.43.0 never closes the provider query manager of a node.
	const kubos = 3
	if last := settle(); last > first+more*kubos+5 {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines after two runs, %d after twenty:\n%s", first, last, buf[:runtime.Stack(buf, true)])
	}
}

// settle waits until goroutines that were told to end have, and counts the rest.
func settle() int {
	last := runtime.NumGoroutine()
	for range 50 {
		timer := time.NewTimer(20 * time.Millisecond)
		<-timer.C
		now := runtime.NumGoroutine()
		if now >= last {
			return now
		}
		last = now
	}
	return last
}

// TestCloseUnderLoad closes a node in the middle of everything: nothing may
// panic, hang, or say that it succeeded when it did not.
func TestCloseUnderLoad(t *testing.T) {
	ctx := testContext(t)
	a := start(t, testConfig(t))
	var bs []blocks.Block
	for range 3000 {
		bs = append(bs, rawBlock(t, random(t, 100)))
	}
	if err := a.PutBlocks(ctx, bs); err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		c := testConfig(t)
		b, stop := startStoppable(t, c)
		acquaint(a, b)
		fetched := make(chan api.Pin, len(bs))
		pinned := make(chan error, 1)
		go func() { pinned <- pinAll(ctx, b, fetched) }()
		ended := make(chan error, 1)
		go func() {
			defer close(fetched)
			for _, blk := range bs {
				p := dataPin(blk.Cid())
				if err := b.Fetch(ctx, p, []peer.AddrInfo{info(a)}, nil); err != nil {
					ended <- err
					return
				}
				fetched <- p
			}
			ended <- nil
		}()
		go func() { _ = b.GC(ctx, nil) }()
		timer := time.NewTimer(time.Duration(round*40) * time.Millisecond)
		<-timer.C
		stop()
		for _, err := range []error{<-ended, <-pinned} {
			if err != nil && api.CodeOf(err) != api.CodeUnavailable {
				t.Errorf("round %d: %v", round, err)
			}
		}
		again, stop := startStoppable(t, c)
		for _, blk := range bs { // what is pinned is there
			if is, err := again.Pinned(ctx, blk.Cid()); err != nil {
				t.Fatal(err)
			} else if !is {
				continue
			}
			if complete, _, err := again.Complete(ctx, dataPin(blk.Cid())); err != nil || !complete {
				t.Fatalf("round %d: %s is pinned and not there: %v", round, blk.Cid(), err)
			}
		}
		stop()
	}
}

func TestCloseNamesWhatHangs(t *testing.T) {
	c := testConfig(t)
	c.ShutdownTimeout = 200 * time.Millisecond
	n, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	<-n.Ready()
	o, _, done, err := n.begin(ctx, "a test that hangs")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "a test that hangs") {
		t.Errorf("closing ended with %v", err)
	}
	done()
	if err := errors.Join(o.core.Bootstrapper.Close(), o.core.Close()); err != nil { // what the process's end would do
		t.Error(err)
	}
}

func TestFolderInUse(t *testing.T) {
	c := testConfig(t)
	start(t, c)
	second, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(testContext(t)); !errors.Is(err, api.ErrConflict) {
		t.Errorf("a second node on one repository: %v", err)
	}
}

func TestInitRefuses(t *testing.T) {
	for name, c := range map[string]Config{
		"no folder":          {},
		"bad address":        {Dir: t.TempDir(), SwarmListen: []string{"127.0.0.1:4001"}},
		"private and public": {Dir: t.TempDir(), Private: true, Public: true},
		"routing":            {Dir: t.TempDir(), Routing: "magic"},
		"DHT of nobody":      {Dir: t.TempDir(), Routing: RoutingDHT},
		"block store":        {Dir: t.TempDir(), BlockStore: "badger"},
		"watermark":          {Dir: t.TempDir(), GCWatermark: 101},
		"no swarm key":       {Dir: t.TempDir(), Private: true},
	} {
		if err := Init(c); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "new")
	if err := Init(Config{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	if err := Init(Config{Dir: dir}); err != nil { // it stays as it is
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, "config": 0o600} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != want {
			t.Errorf("%s has mode %o", name, st.Mode().Perm())
		}
	}
	n, err := New(Config{Dir: dir}, nil)
	if err != nil || n.ID() == "" {
		t.Errorf("a node that is not running has ID %q: %v", n.ID(), err)
	}
}

const swarmKey = "/key/swarm/psk/1.0.0/\n/base16/\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"

func TestPrivateSwarm(t *testing.T) {
	ctx := testContext(t)
	private := func() Config {
		c := testConfig(t)
		c.Private, c.SwarmKey, c.StallTimeout, c.StallLimit = true, []byte(swarmKey), 300*time.Millisecond, 2
		return c
	}
	a, b := start(t, private()), start(t, private())
	open := testConfig(t)
	open.StallTimeout, open.StallLimit = 300*time.Millisecond, 2
	stranger := start(t, open)
	blk := rawBlock(t, []byte("secret"))
	if err := a.PutBlocks(ctx, []blocks.Block{blk}); err != nil {
		t.Fatal(err)
	}
	if err := stranger.Fetch(ctx, dataPin(blk.Cid()), []peer.AddrInfo{info(a)}, nil); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("a stranger's fetch: %v", err)
	}
	if err := b.Fetch(ctx, dataPin(blk.Cid()), []peer.AddrInfo{info(a)}, nil); err != nil {
		t.Errorf("a member's fetch: %v", err)
	}
}
