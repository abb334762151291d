package node

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	pebbleds "github.com/ipfs/go-ds-pebble"
)

// BenchmarkMarkMemory counts what a mark of a collection keeps in memory: raw
// blocks are remembered once, others twice. The numbers of blocks are where maps
// are full, and where they have just grown. Run with -benchtime=1x.
func BenchmarkMarkMemory(b *testing.B) {
	for _, codec := range []uint64{cid.Raw, cid.DagProtobuf} {
		for _, count := range []int{850_000, 1_000_000} {
			b.Run(fmt.Sprintf("codec-%x-%d", codec, count), func(b *testing.B) {
				for b.Loop() {
					before := heap()
					m := newMark(nil)
					for i := range count {
						m.push(root{cid: cid.NewCidV1(codec, rawBlock(b, fmt.Append(nil, i)).Cid().Hash())})
						m.stack = m.stack[:0]
					}
					b.ReportMetric(float64(heap()-before)/float64(count), "bytes/block")
					runtime.KeepAlive(m)
				}
			})
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// BenchmarkVerify reads blocks in the order of a file, with and without comparing
// their bytes with their CIDs, in turn; it tells the medians and their ratio.
func BenchmarkVerify(b *testing.B) {
	for _, load := range []struct {
		name        string
		size, count int
	}{{"leaves of 256 KiB", 256 << 10, 1024}, {"blocks of 200 B", 200, 100_000}} {
		b.Run(load.name, func(b *testing.B) {
			ctx := context.Background()
			dir := b.TempDir()
			inner, err := pebbleds.NewDatastore(dir, pebbleds.WithPebbleOpts(pebbleOptions(new(atomic.Bool))))
			if err != nil {
				b.Fatal(err)
			}
			plain := newPebbleStore(inner, new(atomic.Bool))
			defer plain.Close()
			found, err := openDamage(ctx, plain, make(chan struct{}, 1), slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			verified := &guardedStore{Datastore: plain, space: &space{}, damage: found, oneLog: true}
			cids := fill(b, blockstore.NewBlockstore(verified, blockstore.WriteThrough(true)), load.size, load.count)
			read := func(bs blockstore.Blockstore) float64 {
				begin := time.Now()
				for _, c := range cids {
					if _, err := bs.Get(ctx, c); err != nil {
						b.Fatal(err)
					}
				}
				return time.Since(begin).Seconds()
			}
			with, without := blockstore.NewBlockstore(verified), blockstore.NewBlockstore(plain)
			read(with) // the page cache is warm then
			var withs, withouts []float64
			for b.Loop() {
				withs, withouts = append(withs, read(with)), append(withouts, read(without))
			}
			slices.Sort(withs)
			slices.Sort(withouts)
			a, z := withs[len(withs)/2], withouts[len(withouts)/2]
			total := float64(load.size) * float64(load.count) / (1 << 20)
			b.ReportMetric(total/a, "verified-MiB/s")
			b.ReportMetric(total/z, "plain-MiB/s")
			b.ReportMetric(a/z, "ratio")
		})
	}
}

func fill(b *testing.B, bs blockstore.Blockstore, size, count int) []cid.Cid {
	b.Helper()
	var cids []cid.Cid
	for len(cids) < count {
		var batch []blocks.Block
		for range 32 {
			blk := rawBlock(b, random(b, size))
			cids, batch = append(cids, blk.Cid()), append(batch, blk)
		}
		if err := bs.PutMany(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	return cids
}
