package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/sync/errgroup"

	"holdfast/api"
	"holdfast/node/internal/gate"
)

// TestTorture lets adds, fetches, pins, unpins and collections of two nodes run
// into one another: what is pinned must be whole whenever nobody is unpinning
// it. TORTURE is for how long (default 3s), SEED repeats a run.
func TestTorture(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("SEED=%d", seed)
	length, err := time.ParseDuration(os.Getenv("TORTURE"))
	if err != nil {
		length = 3 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), length+2*time.Minute)
	defer cancel()
	a, b := start(t, testConfig(t)), start(t, testConfig(t))
	source := start(t, testConfig(t))
	acquaint(a, b, source)
	end := time.Now().Add(length)
	group, ctx := errgroup.WithContext(ctx)
	rounds := make([]int, 6)
	for worker := range 4 {
		r := rand.New(rand.NewPCG(seed, uint64(worker)))
		group.Go(func() error {
			for ; time.Now().Before(end); rounds[worker]++ {
				if err := tortureRound(ctx, t, source, a, b, r); err != nil {
					return fmt.Errorf("worker %d, round %d: %w", worker, rounds[worker], err)
				}
			}
			return nil
		})
	}
	for i, n := range []*Node{a, b} {
		group.Go(func() error {
			for ; time.Now().Before(end); rounds[4+i]++ {
				if err := n.GC(ctx, nil); err != nil && !errors.Is(err, api.ErrUnavailable) {
					return fmt.Errorf("collection %d of node %d: %w", rounds[4+i], i, err)
				}
				if err := gate.Sleep(ctx, 50*time.Millisecond); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("rounds of four workers and two collectors: %v", rounds)
}

// tortureRound has two nodes fetch a file from a third, or gives it to one of
// them under a lease, pins, checks, and unpins.
func tortureRound(ctx context.Context, t *testing.T, source, a, b *Node, r *rand.Rand) error {
	if r.IntN(2) == 0 {
		a, b = b, a
	}
	var root cid.Cid
	if r.IntN(2) == 0 {
		data := bytesOf(r, 1+r.IntN(3<<20))
		root = add(t, source, data, "pin=false&raw-leaves="+strconv.FormatBool(r.IntN(2) == 0))
		if err := fetchAndPin(ctx, a, source, root); err != nil {
			return err
		}
	} else {
		release, err := a.Lease(ctx)
		if err != nil {
			return err
		}
		blk := rawBlock(t, bytesOf(r, 1+r.IntN(1<<10)))
		root = blk.Cid()
		err = errors.Join(a.PutBlocks(ctx, []blocks.Block{blk}), a.Pin(ctx, []api.Pin{dataPin(root)}))
		release()
		if err != nil {
			return err
		}
	}
	if err := fetchAndPin(ctx, b, a, root); err != nil {
		return err
	}
	for i, n := range []*Node{a, b} {
		if complete, missing, err := n.Complete(ctx, dataPin(root)); err != nil || !complete {
			return fmt.Errorf("node %d lacks %s of %s: %w", i, missing, root, errors.Join(err, errors.New("not complete")))
		}
		if err := n.Unpin(ctx, []cid.Cid{root}); err != nil {
			return err
		}
	}
	return nil
}

func fetchAndPin(ctx context.Context, n, from *Node, root cid.Cid) error {
	if err := n.Fetch(ctx, dataPin(root), []peer.AddrInfo{info(from)}, nil); err != nil {
		return err
	}
	return n.Pin(ctx, []api.Pin{dataPin(root)})
}

func bytesOf(r *rand.Rand, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}
