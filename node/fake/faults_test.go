package fake_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
	"holdfast/node/fake"
)

func raw(t *testing.T, text string) blocks.Block {
	t.Helper()
	c, err := cid.V1Builder{Codec: cid.Raw, MhType: multihash.SHA2_256}.Sum([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	b, err := blocks.NewBlockWithCid([]byte(text), c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pin(b blocks.Block) api.Pin { return api.Pin{Cid: api.NewCid(b.Cid())} }

func start(t *testing.T, c fake.Config) (*fake.Node, func()) {
	t.Helper()
	n, err := fake.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	<-n.Ready()
	return n, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestCrashLosesWhatWasNotSynced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, disk := fake.NewWorld(0), fake.NewDisk("a")
		n, stop := start(t, fake.Config{World: world, Disk: disk})
		kept, lost := raw(t, "kept"), raw(t, "lost")
		if err := n.PutBlocks(t.Context(), []blocks.Block{kept}); err != nil {
			t.Fatal(err)
		}
		if err := n.Pin(t.Context(), []api.Pin{pin(kept)}); err != nil {
			t.Fatal(err)
		}
		if err := n.PutBlocks(t.Context(), []blocks.Block{lost}); err != nil {
			t.Fatal(err)
		}
		disk.Crash()
		if err := n.PutBlocks(t.Context(), []blocks.Block{lost}); api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("a write after the crash: %v", err)
		}
		stop()
		if !disk.Has(kept.Cid()) || disk.Has(lost.Cid()) || len(disk.Pins()) != 1 {
			t.Error("the crash lost, or kept, the wrong things")
		}
		n, stop = start(t, fake.Config{World: world, Disk: disk})
		defer stop()
		if pinned, err := n.Pinned(t.Context(), kept.Cid()); err != nil || !pinned {
			t.Errorf("the pin is gone: %v", err)
		}
	})
}

func TestCutsAndLatency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := fake.NewWorld(time.Second)
		a, stopA := start(t, fake.Config{World: world, Disk: fake.NewDisk("a")})
		defer stopA()
		b, stopB := start(t, fake.Config{World: world, Disk: fake.NewDisk("b"), StallTimeout: 10 * time.Second, StallLimit: 3})
		defer stopB()
		blk := raw(t, "far away")
		if err := a.PutBlocks(t.Context(), []blocks.Block{blk}); err != nil {
			t.Fatal(err)
		}
		holder := []peer.AddrInfo{{ID: a.ID()}}
		world.Cut("a", "b", true)
		begin := time.Now()
		if err := b.Fetch(t.Context(), pin(blk), holder, nil); api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("a fetch across a cut: %v", err)
		}
		if took := time.Since(begin); took != 30*time.Second {
			t.Errorf("it gave up after %s", took)
		}
		begin = time.Now()
		fetched := make(chan error, 1)
		go func() { fetched <- b.Fetch(t.Context(), pin(blk), holder, nil) }()
		synctest.Wait()
		world.Heal()
		if err := <-fetched; err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took != time.Second {
			t.Errorf("a block took %s", took)
		}
	})
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world, bad := fake.NewWorld(0), errors.New("sector not found")
		a, stopA := start(t, fake.Config{World: world, Disk: fake.NewDisk("a")})
		defer stopA()
		var failing string
		b, stopB := start(t, fake.Config{World: world, Disk: fake.NewDisk("b"), Fault: func(op fake.Op) error {
			if op.Name == failing {
				return bad
			}
			return nil
		}})
		defer stopB()
		blk := raw(t, "x")
		if err := a.PutBlocks(t.Context(), []blocks.Block{blk}); err != nil {
			t.Fatal(err)
		}
		for _, failing = range []string{"fetch", "write"} {
			if err := b.Fetch(t.Context(), pin(blk), []peer.AddrInfo{{ID: a.ID()}}, nil); !errors.Is(err, bad) {
				t.Errorf("%s: %v", failing, err)
			}
		}
		failing = "pin"
		if err := b.Pin(t.Context(), []api.Pin{pin(blk)}); !errors.Is(err, bad) {
			t.Errorf("pin: %v", err)
		}
		failing = ""
		if err := b.Fetch(t.Context(), pin(blk), []peer.AddrInfo{{ID: a.ID()}}, nil); err != nil {
			t.Error(err)
		}
	})
}
