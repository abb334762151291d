package state_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
	"holdfast/state"
)

// benchPins are encoded commands of pins with two copies and a request id.
func benchPins(from, n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		pin := testPin(from+i, testPeer(i%3), testPeer((i+1)%3))
		out[i] = state.PinCommand{Pin: pin, At: epoch, RequestID: fmt.Sprint("request ", from+i)}.Encode()
	}
	return out
}

// BenchmarkApply measures new pins, by the number of commands in a log entry.
func BenchmarkApply(b *testing.B) {
	for _, size := range []int{1, 64, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := open(b, vfs.Default, b.TempDir())
			pins, index := 0, uint64(0)
			var cpu time.Duration
			for b.Loop() {
				b.StopTimer()
				commands := benchPins(pins, size)
				before := cpuTime()
				b.StartTimer()
				index++
				if _, err := p.Apply(index, commands); err != nil {
					b.Fatal(err)
				}
				cpu += cpuTime() - before
				pins += size
			}
			b.ReportMetric(float64(pins)/b.Elapsed().Seconds(), "pins/s")
			b.ReportMetric(float64(cpu.Microseconds())/float64(pins), "cpu-µs/pin")
		})
	}
}

// cpuTime is what the process used so far, in all its threads: on a machine
// that others use too it says more than the wall clock.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkRead measures listings and single reads of 100,000 pins.
func BenchmarkRead(b *testing.B) {
	const pins = 100_000
	p := open(b, vfs.Default, b.TempDir())
	for i := range pins / 1000 {
		apply(b, p, uint64(i+1), benchPins(i*1000, 1000)...)
	}
	listing := func(filter api.PinFilter) func(b *testing.B) {
		return func(b *testing.B) {
			n := 0
			for b.Loop() {
				n += len(list(b, p, filter))
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "pins/s")
		}
	}
	b.Run("all", listing(api.PinFilter{}))
	b.Run("peer", listing(api.PinFilter{Peer: testPeer(1)}))
	b.Run("get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, found, err := p.Get(testCid(i % pins)); err != nil || !found {
				b.Fatal(found, err)
			}
		}
	})
	b.Run("hash", func(b *testing.B) {
		for b.Loop() {
			mustHash(b, p)
		}
	})
}

// BenchmarkApplyDuringSnapshots measures how long an Apply of 16 pins takes at
// worst while checkpoints are made without a pause, and while none are.
func BenchmarkApplyDuringSnapshots(b *testing.B) {
	for _, snapshots := range []bool{false, true} {
		b.Run(fmt.Sprint(snapshots), func(b *testing.B) {
			dir := b.TempDir()
			p := open(b, vfs.Default, filepath.Join(dir, "pinset"))
			index := uint64(0)
			for ; index < 200; index++ {
				apply(b, p, index+1, benchPins(int(index)*1000, 1000)...)
			}
			stop, made := make(chan struct{}), 0
			var making sync.WaitGroup
			if snapshots {
				making.Go(func() {
					for ; ; made++ {
						select {
						case <-stop:
							return
						default:
						}
						to := filepath.Join(dir, fmt.Sprint("checkpoint", made))
						if err := errors.Join(p.Checkpoint(to), os.RemoveAll(to)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			var took []time.Duration
			pins := int(index) * 1000
			for b.Loop() {
				b.StopTimer()
				commands := benchPins(pins, 16)
				before := time.Now()
				b.StartTimer()
				index++
				if _, err := p.Apply(index, commands); err != nil {
					b.Fatal(err)
				}
				took, pins = append(took, time.Since(before)), pins+16
			}
			close(stop)
			making.Wait()
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2].Seconds()*1000, "ms-p50")
			b.ReportMetric(took[len(took)*999/1000].Seconds()*1000, "ms-p99.9")
			b.ReportMetric(took[len(took)-1].Seconds()*1000, "ms-max")
			b.ReportMetric(float64(made), "snapshots")
		})
	}
}

var benchSize = flag.Int("pins", 100_000, "pins of BenchmarkLarge")

// BenchmarkLarge fills a pinset once, in entries of 1,000, and measures what
// grows with it: -pins 10000000 is the size that it is meant for.
func BenchmarkLarge(b *testing.B) {
	dir := b.TempDir()
	p := open(b, vfs.Default, dir)
	start, worst := time.Now(), time.Duration(0)
	for i := range *benchSize / 1000 {
		commands := benchPins(i*1000, 1000)
		before := time.Now()
		apply(b, p, uint64(i+1), commands...)
		worst = max(worst, time.Since(before))
		if i == *benchSize/2000 {
			if err := p.Checkpoint(filepath.Join(dir, "checkpoint")); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Logf("%d pins in %v, the slowest Apply of 1,000 took %v", *benchSize, time.Since(start), worst)
	if err := p.Close(); err != nil {
		b.Fatal(err)
	}
	logDisk(b, dir, "not compacted")
	start = time.Now()
	p = open(b, vfs.Default, dir)
	b.Logf("opened in %v", time.Since(start))
	start = time.Now()
	if err := p.Compact(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Logf("compacted in %v", time.Since(start))
	logDisk(b, dir, "compacted")
	benchSelections(b, p)
	start = time.Now()
	checkClean(b, p)
	b.Logf("checked in %v", time.Since(start))
	logMemory(b)
	start = time.Now()
	if err := p.Checkpoint(filepath.Join(dir, "second")); err != nil {
		b.Fatal(err)
	}
	b.Logf("checkpoint in %v", time.Since(start))
	start = time.Now()
	if err := p.Restore(filepath.Join(dir, "checkpoint")); err != nil {
		b.Fatal(err)
	}
	b.Logf("restored half of it in %v", time.Since(start))
	for b.Loop() {
		if _, found, err := p.Get(testCid(-1)); found || err != nil {
			b.Fatal(found, err)
		}
	}
}

// benchSelections measures listings and counts.
func benchSelections(b *testing.B, p *state.Pinset) {
	for _, filter := range []api.PinFilter{{}, {Peer: testPeer(1)}, {Name: "pin 777"}, {NamePrefix: "pin 777"}, {NamePrefix: "pin 7", Limit: 1000},
		{NamePrefix: "pin 7", Peer: testPeer(1), Limit: 1000}, {CreatedAfter: epoch.Add(-time.Second), Limit: 1000}, {CreatedAfter: epoch}} {
		start, n := time.Now(), 0
		for _, err := range p.Pins(filter) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		listed := time.Since(start)
		start = time.Now()
		count, err := p.Count(b.Context(), filter)
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("peer %t, name %q, prefix %q, created %t: %d pins listed in %v, %d counted in %v",
			filter.Peer != "", filter.Name, filter.NamePrefix, !filter.CreatedAfter.IsZero(), n, listed, count, time.Since(start))
	}
}

func logDisk(b *testing.B, dir, when string) {
	b.Logf("%d bytes of disk per pin, indexes and both memories included, %s", diskOf(b, filepath.Join(dir, "db-000001"))/int64(*benchSize), when)
}

// logMemory tells what the process has, and the most that it had, from the
// system.
func logMemory(b *testing.B) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Logf("memory is not known here: %v", err)
		return
	}
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "VmHWM") {
			b.Log(strings.TrimSpace(line))
		}
	}
}

// diskOf is the size of a folder's files.
func diskOf(b *testing.B, dir string) int64 {
	disk := int64(0)
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		disk += info.Size()
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return disk
}
