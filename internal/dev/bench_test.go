package dev

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
	"holdfast/client"
	"holdfast/internal/heap"
)

// benchBytes is how much each add carries: 64 MiB, or BENCH_BYTES.
func benchBytes(b *testing.B) int64 {
	text, ok := os.LookupEnv("BENCH_BYTES")
	if !ok {
		return 64 << 20
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// content is different for every key, and cheap to make.
func content(key uint64, size int64) io.Reader {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], key)
	return io.LimitReader(rand.NewChaCha8(seed), size)
}

// upload streams content as the multipart body of an add.
func upload(key uint64, size int64) (io.Reader, string) {
	reader, writer := io.Pipe()
	form := multipart.NewWriter(writer)
	go func() {
		part, err := form.CreateFormFile("file", "content")
		if err == nil {
			_, err = io.Copy(part, content(key, size))
		}
		if err == nil {
			err = form.Close()
		}
		writer.CloseWithError(err)
	}()
	return reader, form.FormDataContentType()
}

// BenchmarkAdd compares an add with two replicas on three peers to that of one
// peer alone, in one run. It uses the ports of 'dev'.
func BenchmarkAdd(b *testing.B) {
	size := benchBytes(b)
	for _, run := range []struct {
		name            string
		peers, replicas int
	}{{"alone", 1, 1}, {"cluster", 3, 2}} {
		b.Run(run.name, func(b *testing.B) {
			c := startCluster(b, run.peers)
			b.SetBytes(size)
			for i := 0; b.Loop(); i++ {
				add(b, c, uint64(i), size, run.replicas)
			}
		})
	}
}

// add adds content and returns its root.
func add(b *testing.B, c *client.Client, key uint64, size int64, replicas int) (root api.Cid) {
	params := api.NewAddParams()
	params.ReplicationFactorMin, params.ReplicationFactorMax = replicas, replicas
	body, kind := upload(key, size)
	if err := c.Add(b.Context(), body, kind, params, func(out api.AddedOutput) error { root = out.Cid; return nil }); err != nil {
		b.Fatal(err)
	}
	return root
}

// BenchmarkCat reads a file from a holder of three peers through its proxy. It
// uses the ports of 'dev'.
func BenchmarkCat(b *testing.B) {
	size := benchBytes(b)
	root := add(b, startCluster(b, 3), 1, size, 3)
	b.SetBytes(size)
	used := processor(b)
	for b.Loop() {
		response, err := http.Post("http://127.0.0.1:9095/api/v0/cat?arg="+root.String(), "", nil)
		if err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(io.Discard, response.Body); err != nil || n != size {
			b.Fatal(response.Status, n, err)
		}
		response.Body.Close()
	}
	b.ReportMetric(float64(used().Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func startCluster(b *testing.B, peers int) *client.Client {
	cluster, err := New(Options{Peers: peers, Dir: b.TempDir(), Environment: func(string) (string, bool) { return "", false }})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(heap.Room(heap.Peer * uint64(peers))) // as of 'cluster-service dev'
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- cluster.Run(ctx, func([]Peer) { close(ready) }) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- nil
		b.Fatal(err)
	}
	c, err := client.New(client.Config{Addrs: []string{"/ip4/127.0.0.1/tcp/9094"}})
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// processor returns the processor time that the process took since a call.
// It says more than the time that passed where others use the machine too.
func processor(b *testing.B) func() time.Duration {
	used := func() time.Duration {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	before := used()
	return func() time.Duration { return used() - before }
}

// perSecond reports the rate of a benchmark and what an operation costs.
func perSecond(b *testing.B, used time.Duration) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pins/s")
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkPin counts single pins that three peers accept over REST, from one
// client and from 64. Nobody has the content, so the trackers look for it.
func BenchmarkPin(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(strconv.Itoa(clients), func(b *testing.B) {
			c := startCluster(b, 3)
			var next atomic.Uint64
			var workers sync.WaitGroup
			b.ResetTimer()
			used := processor(b)
			for range clients {
				workers.Go(func() {
					for i := next.Add(1); i <= uint64(b.N); i = next.Add(1) {
						digest, err := multihash.Sum(binary.BigEndian.AppendUint64(nil, i), multihash.SHA2_256, -1)
						if err == nil {
							_, err = c.Pin(b.Context(), api.NewCid(cid.NewCidV1(cid.Raw, digest)), api.PinOptions{})
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			workers.Wait()
			perSecond(b, used())
		})
	}
}

// BenchmarkBulk counts pins that three peers accept in one bulk write.
func BenchmarkBulk(b *testing.B) {
	c := startCluster(b, 3)
	lines := func(yield func(api.BulkLine) bool) {
		for i := range uint64(b.N) {
			digest, err := multihash.Sum(binary.BigEndian.AppendUint64(nil, i), multihash.SHA2_256, -1)
			if err != nil {
				b.Error(err)
				return
			}
			if !yield(api.BulkLine{Cid: api.NewCid(cid.NewCidV1(cid.Raw, digest))}) {
				return
			}
		}
	}
	b.ResetTimer()
	used := processor(b)
	for result, err := range c.Bulk(b.Context(), lines, "") {
		if err != nil || result.Err != nil {
			b.Fatal(err, result.Err)
		}
	}
	perSecond(b, used())
}
