package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/boxo/blockstore"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/mount"
	"github.com/ipfs/go-ds-flatfs"
	pebbleds "github.com/ipfs/go-ds-pebble"
)

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func written() (bytes int64) {
	data, _ := os.ReadFile("/proc/self/io")
	for line := range strings.Lines(string(data)) {
		fmt.Sscanf(line, "write_bytes: %d", &bytes)
	}
	return bytes
}

// BenchmarkBlockStore writes a gibibyte of 256 KiB blocks, or 200,000 blocks of
// 200 bytes, in batches as adds and fetches do, reads it all at random, and
// deletes it. Run with -benchtime=1x.
func BenchmarkBlockStore(b *testing.B) {
	open := map[string]func(dir string) (ds.Batching, error){
		"flatfs": func(dir string) (ds.Batching, error) {
			store, err := flatfs.CreateOrOpen(filepath.Join(dir, "blocks"), flatfs.NextToLast(3), false)
			return mount.New([]mount.Mount{{Prefix: ds.NewKey("/blocks"), Datastore: store}}), err
		},
		"pebble-default": func(dir string) (ds.Batching, error) { return pebbleds.NewDatastore(dir) },
		"pebble": func(dir string) (ds.Batching, error) {
			return pebbleds.NewDatastore(dir, pebbleds.WithPebbleOpts(pebbleOptions(new(atomic.Bool))))
		},
	}
	for _, load := range []struct {
		name        string
		size, count int
		batch       int
	}{{"big", 256 << 10, 4096, 32}, {"small", 200, 200_000, 500}} {
		for _, kind := range []string{"flatfs", "pebble-default", "pebble"} {
			b.Run(load.name+"/"+kind, func(b *testing.B) {
				for b.Loop() {
					benchBlocks(b, open[kind], load.size, load.count, load.batch)
				}
			})
		}
	}
}

func benchBlocks(b *testing.B, open func(string) (ds.Batching, error), size, count, batch int) {
	ctx := context.Background()
	dir := b.TempDir()
	store, err := open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { store.Close() }()
	bs := blockstore.NewBlockstore(store, blockstore.WriteThrough(true))
	r := rand.New(rand.NewPCG(1, 2))
	src := make([]byte, size+8)
	for i := range src {
		src[i] = byte(r.Uint32())
	}
	var cids []cid.Cid
	step := func(name string, f func()) {
		t, c, w := time.Now(), cpu(), written()
		f()
		d, used := time.Since(t), cpu()-c
		total := float64(size) * float64(count) / (1 << 20)
		b.ReportMetric(total/d.Seconds(), name+"-MiB/s")
		b.ReportMetric(float64(count)/d.Seconds(), name+"/s")
		b.ReportMetric(used.Seconds(), name+"-cpu-s")
		if name == "write" {
			b.ReportMetric(float64(written()-w)/(1<<20), "disk-MiB")
		}
	}
	var hashing time.Duration
	step("write", func() {
		for i := 0; i < count; i += batch {
			var blks []blocks.Block
			for j := i; j < min(i+batch, count); j++ {
				data := append([]byte{}, src[:size]...)
				binary.LittleEndian.PutUint64(data, uint64(j))
				t := time.Now()
				blk := rawBlock(b, data)
				hashing += time.Since(t)
				cids, blks = append(cids, blk.Cid()), append(blks, blk)
			}
			if err := bs.PutMany(ctx, blks); err != nil {
				b.Fatal(err)
			}
		}
		if err := store.Sync(ctx, ds.NewKey("/blocks")); err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(hashing.Seconds(), "hash-s")
	r.Shuffle(len(cids), func(i, j int) { cids[i], cids[j] = cids[j], cids[i] })
	step("read", func() {
		for _, c := range cids {
			if _, err := bs.Get(ctx, c); err != nil {
				b.Fatal(err)
			}
		}
	})
	step("miss", func() {
		for i := range count {
			if has, err := bs.Has(ctx, rawBlock(b, fmt.Appendf(nil, "missing %d", i)).Cid()); err != nil || has {
				b.Fatal(has, err)
			}
		}
	})
	step("delete", func() {
		for _, c := range cids {
			if err := bs.DeleteBlock(ctx, c); err != nil {
				b.Fatal(err)
			}
		}
	})
}
