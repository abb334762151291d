package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"github.com/urfave/cli/v2"

	"holdfast/api"
	"holdfast/client"
)

// benchResult is what one benchmark measured.
type benchResult struct {
	Name      string  `json:"name"`
	Clients   int     `json:"clients"`
	Count     int     `json:"count"`           // operations
	Bytes     uint64  `json:"bytes,omitempty"` // of content
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`       // operations
	P50       float64 `json:"p50_ms,omitempty"` // of one operation; not of those whose results come in a stream
	P99       float64 `json:"p99_ms,omitempty"`
	Max       float64 `json:"max_ms"` // of one operation, or between two results of a stream
}

func textBench(w io.Writer, r benchResult) {
	fmt.Fprintf(w, "%s: %d in %.2f s with %s: %.0f/s, ", r.Name, r.Count, r.Seconds,
		english.Plural(r.Clients, "client", ""), r.PerSecond)
	if r.P50 > 0 {
		fmt.Fprintf(w, "p50 %.2f ms, p99 %.2f ms, max %.1f ms", r.P50, r.P99, r.Max)
	} else {
		fmt.Fprintf(w, "%.1f ms between two results at most", r.Max)
	}
	if r.Bytes > 0 {
		fmt.Fprintf(w, ", %.1f MB/s", float64(r.Bytes)/r.Seconds/1e6)
	}
	fmt.Fprintln(w)
}

func (p *program) benchCommand() *cli.Command {
	seed := &cli.Uint64Flag{Name: "seed", Value: uint64(time.Now().UnixNano()), DefaultText: "from the clock", Usage: "what the made-up content follows from"}
	keep := &cli.BoolFlag{Name: "keep", Usage: "leave what was pinned in the cluster"}
	return group("bench", "measure a running cluster; what is pinned for it is removed again",
		&cli.Command{
			Name:  "pins",
			Usage: "pin made-up CIDs one by one and tell how many per second were accepted",
			Description: "The CIDs stand for no content, so the peers look for it until the pins are removed.\n" +
				"Do not run it on a cluster that serves others.",
			Flags: []cli.Flag{
				&cli.IntFlag{Name: "count", Value: 10_000, Usage: "how many `PINS`"},
				&cli.IntFlag{Name: "clients", Value: 64, Usage: "how many requests at once"}, seed, keep},
			Action: p.benchPins,
		},
		&cli.Command{
			Name:  "bulk",
			Usage: "pin made-up CIDs in one bulk write and tell how many per second were accepted",
			Flags: []cli.Flag{
				&cli.IntFlag{Name: "count", Value: 200_000, Usage: "how many `PINS`"}, seed, keep},
			Action: p.benchBulk,
		},
		&cli.Command{
			Name:  "add",
			Usage: "add one made-up file and tell how fast",
			Flags: append([]cli.Flag{
				&cli.StringFlag{Name: "size", Value: "1GiB", Usage: "how many `BYTES`"}, seed, keep}, pinFlags("r")...),
			Action: p.benchAdd,
		})
}

func (p *program) benchPins(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	count, clients := c.Int("count"), c.Int("clients")
	if count < 1 || clients < 1 {
		return usagef("--count and --clients must be at least 1")
	}
	ids := make([]api.Cid, count)
	for i := range ids {
		ids[i] = madeUpCid(c.Uint64("seed"), uint64(i))
	}
	result, err := measure("pins accepted", count, clients, func(i int) error {
		_, err := p.cluster.Pin(c.Context, ids[i], api.PinOptions{Name: "bench"})
		return err
	})
	if err == nil {
		err = show(p, result, textBench)
	}
	if !c.Bool("keep") {
		err = firstError(err, unpinAll(context.WithoutCancel(c.Context), p.cluster, ids))
	}
	return err
}

// benchBulk measures one bulk write. Its lines share the time of their chunks,
// so only the longest wait for a result says something.
func (p *program) benchBulk(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	count, seed := c.Int("count"), c.Uint64("seed")
	if count < 1 {
		return usagef("--count must be at least 1")
	}
	lines := func(unpin bool) iter.Seq[api.BulkLine] {
		return func(yield func(api.BulkLine) bool) {
			for i := range count {
				if !yield(api.BulkLine{Cid: madeUpCid(seed, uint64(i)), Unpin: unpin, Options: api.PinOptions{Name: "bench"}}) {
					return
				}
			}
		}
	}
	next, stop := iter.Pull2(p.cluster.Bulk(c.Context, lines(false), ""))
	defer stop()
	result, err := measure("pins accepted in bulk", count, 1, func(int) error {
		got, err, ok := next()
		switch {
		case !ok:
			return api.Errorf(api.CodeInternal, "fewer results than lines")
		case err != nil:
			return err
		case got.Err != nil:
			return got.Err
		}
		return nil
	})
	result.P50, result.P99 = 0, 0
	if err == nil {
		err = show(p, result, textBench)
	}
	if !c.Bool("keep") {
		for _, failed := range p.cluster.Bulk(context.WithoutCancel(c.Context), lines(true), "") {
			err = firstError(err, failed) // what was not pinned is no failure
		}
	}
	return err
}

// measure calls op for 0 to count-1 from some clients at once.
func measure(name string, count, clients int, op func(int) error) (benchResult, error) {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	took := make([]time.Duration, count)
	var workers sync.WaitGroup
	began := time.Now()
	for range min(clients, count) {
		workers.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= count {
					return
				}
				start := time.Now()
				if err := op(i); err != nil {
					failed.Store(&err)
					return
				}
				took[i] = time.Since(start)
			}
		})
	}
	workers.Wait()
	elapsed := time.Since(began)
	if err := failed.Load(); err != nil {
		return benchResult{}, *err
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return benchResult{Name: name, Clients: clients, Count: count, Seconds: elapsed.Seconds(),
		PerSecond: float64(count) / elapsed.Seconds(), P50: ms(took[count/2]), P99: ms(took[count*99/100]), Max: ms(took[count-1])}, nil
}

// unpinAll removes pins that may or may not be there.
func unpinAll(ctx context.Context, cluster *client.Client, ids []api.Cid) error {
	_, err := measure("unpin", len(ids), 64, func(i int) error {
		_, err := cluster.Unpin(ctx, ids[i])
		if api.CodeOf(err) == api.CodeNotFound {
			return nil
		}
		return err
	})
	return err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// madeUpCid is a CID of nothing that anybody has.
func madeUpCid(seed, i uint64) api.Cid {
	var content [16]byte
	binary.BigEndian.PutUint64(content[:], seed)
	binary.BigEndian.PutUint64(content[8:], i)
	sum := sha256.Sum256(content[:])
	digest, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		return api.Cid{} // cannot happen: the length fits the code
	}
	return api.NewCid(cid.NewCidV1(cid.Raw, digest))
}

func (p *program) benchAdd(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	size, err := humanize.ParseBytes(c.String("size"))
	if err != nil || size == 0 {
		return usagef("--size %q is not a number of bytes such as 1GiB", c.String("size"))
	}
	params := api.NewAddParams()
	if params.PinOptions, err = pinOptions(c); err != nil {
		return err
	}
	var root api.Cid
	seed := c.Uint64("seed")
	result, err := measure("add", 1, 1, func(int) error {
		var key [32]byte
		binary.BigEndian.PutUint64(key[:], seed)
		content := io.LimitReader(rand.NewChaCha8(key), int64(size))
		return p.cluster.AddPaths(c.Context, client.Files{Paths: []string{"-"}, Stdin: content}, params,
			func(out api.AddedOutput) error {
				if out.Cid.Defined() {
					root = out.Cid
				}
				return nil
			})
	})
	if err == nil {
		result.Bytes = size
		err = show(p, result, textBench)
	}
	if !c.Bool("keep") && root.Defined() {
		err = firstError(err, unpinAll(context.WithoutCancel(c.Context), p.cluster, []api.Cid{root}))
	}
	return err
}
