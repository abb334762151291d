package daemon

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
	"holdfast/restapi"
	"holdfast/state"
)

var listed = flag.Int("listed", 20_000, "pins of BenchmarkListing")

// pinset is as much of a cluster as a listing needs.
type pinset struct {
	restapi.Service
	state *state.Pinset
}

func (p pinset) Allocations(ctx context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	return p.state.Select(ctx, filter)
}

func (p pinset) Count(ctx context.Context, filter api.PinFilter) (uint64, error) {
	return p.state.Count(ctx, filter)
}

func (p pinset) ReadAt(context.Context, api.ReadPoint) (uint64, error) {
	return p.state.Applied(), nil
}

// BenchmarkListing lists a pinset on disk through a real HTTP server, and tells
// by how much the process grew at most: -listed 1000000 is the size that it is
// meant for.
func BenchmarkListing(b *testing.B) {
	p, err := state.Open(vfs.Default, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	fillForListing(b, p)
	server := httptest.NewServer(restapi.New(pinset{state: p}, nil, restapi.Config{}))
	defer server.Close()
	for _, query := range []string{"", "?peer=" + listedHolder(0).String(), "?name-prefix=backups/2&limit=1000", "?count=true"} {
		b.Run(query, func(b *testing.B) {
			before := resident(b, true)
			lines, size, times, cpu := 0, 0, 0, cpuTime(b)
			for b.Loop() {
				lines, size = readLines(b, server.URL+"/allocations"+query)
				times++
			}
			b.ReportMetric((cpuTime(b)-cpu).Seconds()/float64(times), "cpu-s/op")
			b.ReportMetric(float64(lines), "lines")
			b.ReportMetric(float64(size)/float64(lines), "bytes/line")
			b.ReportMetric(resident(b, false)-before, "MiB-more-RSS")
		})
	}
}

func listedHolder(n int) peer.ID {
	hash, err := multihash.Sum(fmt.Append(nil, "holder", n), multihash.SHA2_256, -1)
	if err != nil {
		panic(err)
	}
	return peer.ID(hash)
}

// fillForListing stores pins as a backup tool makes them, a thousand a second.
func fillForListing(b *testing.B, p *state.Pinset) {
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	for n := 0; n < *listed; {
		var commands [][]byte
		for ; len(commands) < 1000 && n < *listed; n++ {
			hash, err := multihash.Sum(fmt.Append(nil, "listed", n), multihash.SHA2_256, -1)
			if err != nil {
				b.Fatal(err)
			}
			pin := api.Pin{Cid: api.NewCid(cid.NewCidV1(cid.DagProtobuf, hash)), Type: api.TypeData, Allocations: []peer.ID{listedHolder(n % 3), listedHolder((n + 1) % 3)},
				PinOptions: api.PinOptions{Name: fmt.Sprintf("backups/%d", n), Mode: api.ModeRecursive, ReplicationFactorMin: 2, ReplicationFactorMax: 2,
					Metadata: map[string]string{"app": "backup"}}}
			commands = append(commands, state.PinCommand{Pin: pin, At: at.Add(time.Duration(n/1000) * time.Second)}.Encode())
		}
		if _, err := p.Apply(p.Applied()+1, commands); err != nil {
			b.Fatal(err)
		}
	}
}

// readLines reads an answer to its end, in little memory.
func readLines(b *testing.B, url string) (lines, size int) {
	resp, err := http.Get(url)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	body := bufio.NewReader(resp.Body)
	for {
		line, err := body.ReadSlice('\n')
		if err == io.EOF && resp.StatusCode == http.StatusOK && resp.Trailer.Get("X-Stream-Error") == "" {
			return lines, size
		}
		if err != nil {
			b.Fatal(resp.StatusCode, resp.Trailer, err)
		}
		lines++
		size += len(line)
	}
}

// cpuTime is what the process used so far, server and client together: on a
// machine that others use too it says more than the wall clock.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// resident is the most memory of the process, in MiB, since the last time that
// it was asked to begin anew; then it is what it has now.
func resident(b *testing.B, anew bool) float64 {
	if anew {
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
			b.Skipf("the most memory of a process is not known here: %v", err)
		}
	}
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib float64
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				b.Fatal(err)
			}
			return kib / 1024
		}
	}
	b.Fatal("no VmHWM in /proc/self/status")
	return 0
}
