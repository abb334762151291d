//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/api"
)

// TestLargePinset fills LARGE_PEERS peers (1) with LARGE_PINS pins (50,000),
// starts one again, and lets another one join while pins go on. Its log has the
// figures: LARGE_PINS=1000000 is worth reading.
func TestLargePinset(t *testing.T) {
	pins, peers := number(t, "LARGE_PINS", 50_000), number(t, "LARGE_PEERS", 1)
	// One replica: otherwise the new peer brings a replica of every pin with it.
	c := newCluster(t, int(peers), map[string]string{"CLUSTER_REPLICATION_MAX": "1"})
	first := c.peers[0]
	lap := stopwatch(t)
	first.fillWith(pins)
	lap(fmt.Sprintf("%d pins in bulk", pins))
	for _, p := range c.peers {
		p.figures("filled")
	}
	if _, err := first.stop(startTime); err != nil {
		t.Fatal(err)
	}
	lap("stop")
	first.startReady()
	lap("start to ready")
	if _, err := first.rest.Pin(t.Context(), rawCid(t, 2, 0), api.PinOptions{}); err != nil {
		t.Fatal(err)
	}
	lap("first accepted pin")
	first.figures("started again")

	load, end := context.WithCancel(t.Context())
	var working sync.WaitGroup
	accepted, unanswered := uint64(0), uint64(0)
	working.Go(func() { accepted, unanswered = first.pinSteadily(load) })
	lap("load")
	second := c.join(fmt.Sprint("peer", peers), map[string]string{"CLUSTER_REPLICATION_MAX": "1"})
	eventually(t, 10*time.Minute, "the new peer is in sync", func(ctx context.Context) error {
		n, err := second.rest.Count(ctx, api.PinFilter{})
		if err == nil && n < pins {
			err = fmt.Errorf("it has %d pins", n)
		}
		return err
	})
	lap("the new peer has every pin")
	end()
	working.Wait()
	t.Logf("%d pins were accepted meanwhile; of %d nobody knows", accepted, unanswered)
	second.figures("joined")
	c.waitWhole()
	eventually(t, startTime, "one pinset", func(context.Context) error {
		if a, b := first.mustService("state", "hash"), second.mustService("state", "hash"); a != b {
			return fmt.Errorf("%s and %s", a, b)
		}
		return nil
	})
	if n, err := second.rest.Count(t.Context(), api.PinFilter{}); err != nil || n < pins+1+accepted || n > pins+1+accepted+unanswered {
		t.Errorf("the new peer counts %d pins (%v); %d were accepted, of %d more nobody knows", n, err, pins+1+accepted, unanswered)
	}
	c.noPanic()
}

// number reads a setting of a test from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// fillWith pins CIDs that nobody has, in one bulk write.
func (p *testPeer) fillWith(pins uint64) {
	p.t.Helper()
	lines := func(yield func(api.BulkLine) bool) {
		for i := range pins {
			if !yield(api.BulkLine{Cid: rawCid(p.t, 1, i), Options: api.PinOptions{Name: fmt.Sprint("pin ", i)}}) {
				return
			}
		}
	}
	for result, err := range p.rest.Bulk(p.t.Context(), lines, "") {
		if err != nil || result.Err != nil {
			p.t.Fatal(err, result.Err)
		}
	}
}

// pinSteadily asks for a thousand pins a second until ctx ends, later ones
// sooner where it was held up, and returns how many were accepted, and how many
// got no answer that says what became of them.
func (p *testPeer) pinSteadily(ctx context.Context) (accepted, unanswered uint64) {
	var mu sync.Mutex
	var asked sync.WaitGroup
	room := make(chan struct{}, 64)
	began := time.Now()
	for i := uint64(1); ; i++ {
		select {
		case <-ctx.Done():
			asked.Wait()
			p.t.Logf("a client asked for 1,000 pins/s and got %.0f/s accepted", float64(accepted)/time.Since(began).Seconds())
			return accepted, unanswered
		case <-time.After(time.Until(began.Add(time.Duration(i) * time.Millisecond))):
		}
		room <- struct{}{}
		asked.Go(func() {
			defer func() { <-room }()
			_, err := p.rest.Pin(p.t.Context(), rawCid(p.t, 2, i), api.PinOptions{})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				accepted++
			} else {
				unanswered++
			}
		})
	}
}

// figures logs what a running peer takes of the machine.
func (p *testPeer) figures(when string) {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	memory := ""
	for line := range strings.Lines(string(status)) {
		for _, field := range []string{"VmHWM:", "VmRSS:"} {
			if value, ok := strings.CutPrefix(line, field); ok {
				memory += " " + field + " " + strings.TrimSpace(value)
			}
		}
	}
	text := fmt.Sprintf("%s, %s:%s", p.name, when, memory)
	for _, folder := range []string{"state", "raft", "tracker"} {
		text += fmt.Sprintf(", %s %d KiB", folder, folderSize(filepath.Join(p.dir, folder))>>10)
	}
	p.t.Logf("%s; together %d KiB, files that a snapshot shares with the pinset counted once", text, folderSize(p.dir)>>10)
}

// folderSize adds up the files of a folder, each once however many names it has;
// files that go meanwhile are left out.
func folderSize(dir string) (bytes int64) {
	seen := map[uint64]bool{}
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			info, err := entry.Info()
			if err != nil {
				return nil
			}
			if inode := info.Sys().(*syscall.Stat_t).Ino; !seen[inode] {
				seen[inode] = true
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}
