//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// onSmallDisk puts a peer's folder on a disk of its own.
func (p *testPeer) onSmallDisk(megabytes int) {
	p.t.Helper()
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", p.dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", megabytes)); err != nil {
		p.t.Skipf("this test mounts a small disk, which is not permitted here: %v", err)
	}
	p.t.Cleanup(func() {
		p.cleanup() // a disk that is in use stays
		if err := syscall.Unmount(p.dir, 0); err != nil {
			p.t.Errorf("unmount %s: %v", p.dir, err)
		}
	})
}

// enlarge gives the disk more space while it is in use.
func (p *testPeer) enlarge(megabytes int) {
	p.t.Helper()
	if err := syscall.Mount("tmpfs", p.dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%dm,mode=0700", megabytes)); err != nil {
		p.t.Fatal(err)
	}
}

// free is what the disk under the peer's folder has left, in bytes.
func (p *testPeer) free() int64 {
	p.t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(p.dir, &st); err != nil {
		p.t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// fill lets another program take the disk until so many bytes are left.
func (p *testPeer) fill(left int64) {
	p.t.Helper()
	f, err := os.OpenFile(filepath.Join(p.dir, "filler"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	zeros := make([]byte, 1<<20)
	for n := p.free() - left; n > 0; n = p.free() - left {
		if _, err := f.Write(zeros[:min(n, int64(len(zeros)))]); err != nil {
			if errors.Is(err, syscall.ENOSPC) {
				return
			}
			p.t.Fatal(err)
		}
	}
}

// noise is a stream that no compression makes smaller.
func noise(megabytes int64) io.Reader { return io.LimitReader(rand.Reader, megabytes<<20) }

// A disk fills while files are added and pinned: what does not fit is refused
// with the reason, nothing of it is pinned, and nothing acknowledged is lost.
func TestDiskFull(t *testing.T) {
	p := newPeer(t, workDir(t), "peer0", nil)
	p.onSmallDisk(400)
	p.mustService("init", "--private")
	p.startReady()
	t.Logf("%d MiB are free", p.free()>>20)
	small, err := p.addFrom(t.Context(), noise(10), api.NewAddParams())
	if err != nil {
		t.Fatal(err)
	}
	acked := map[string]bool{small.String(): true}

	for _, stream := range []bool{true, false} {
		params := api.NewAddParams()
		params.StreamChannels = stream
		_, err := p.addFrom(t.Context(), noise(600), params)
		// Once the leader knows that the disk is full, it has no peer to offer.
		if code := api.CodeOf(err); code != api.CodeNoSpace && (code != api.CodeNotEnoughPeers || !strings.Contains(err.Error(), "space")) {
			t.Errorf("an add of 600 MiB: %s %v", code, err)
		}
	}
	p.only(acked)
	if _, err := p.cat(t.Context(), small.String()); err != nil {
		t.Errorf("what was there before: %v", err)
	}
	p.mustCtl(time.Minute, "ipfs", "gc")
	var again api.Cid
	eventually(t, 10*time.Second, "there is space again after garbage collection", func(ctx context.Context) error {
		again, err = p.addFrom(ctx, noise(10), api.NewAddParams())
		return err
	})
	acked[again.String()] = true

	p.fill(0)
	t.Logf("now %d bytes are free", p.free())
	// What the databases have set aside may do for a small file.
	last, err := p.addFrom(t.Context(), noise(1), api.NewAddParams())
	if err == nil {
		acked[last.String()] = true
	}
	p.pinOnFullDisk(t, acked)
	p.enlarge(800)
	if p.running() {
		p.kill()
	}
	p.startReady()
	p.only(acked)
	for _, c := range []api.Cid{small, again, last} {
		if !acked[c.String()] {
			continue
		}
		if _, err := p.cat(t.Context(), c.String()); err != nil {
			t.Errorf("a file that was acknowledged: %v", err)
		}
	}
	eventually(t, 10*time.Second, "there is space on the larger disk", func(ctx context.Context) error {
		_, err := p.addFrom(ctx, noise(10), api.NewAddParams())
		return err
	})
}

// pinOnFullDisk pins until the disk is so full that a pin fails, or for a
// while. What was acknowledged is added to acked.
func (p *testPeer) pinOnFullDisk(t *testing.T, acked map[string]bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	for n := range uint64(3000) {
		one, done := context.WithTimeout(ctx, 15*time.Second)
		c := rawCid(t, 5, n)
		_, err := p.rest.Pin(one, c, api.PinOptions{Name: "on a full disk"})
		done()
		if err != nil {
			t.Logf("pin %d on a full disk: %s %v; the process runs: %v", n, api.CodeOf(err), err, p.running())
			break
		}
		acked[c.String()] = true
	}
	if !p.running() {
		if exitCode(p.exit) == 0 {
			t.Error("the peer ended with 0 because its disk is full")
		}
		said := p.logLines("no space left on device")
		if len(said) == 0 {
			t.Errorf("the peer ended without a word about its disk: %v\n%s", p.exit, tail(p.logAt, 30))
		}
		t.Logf("the peer ended: %v %q", p.exit, said)
	}
	t.Logf("%d pins acknowledged", len(acked))
}

// only checks that everything acknowledged is pinned. What was not, or whose
// answer was lost, may only be a CID of pinOnFullDisk.
func (p *testPeer) only(acked map[string]bool) {
	p.t.Helper()
	pinset, err := p.settledPinset(p.t)
	if err != nil {
		p.t.Fatal(err)
	}
	for c := range acked {
		if _, ok := pinset[c]; !ok {
			p.t.Errorf("%s was acknowledged and is not pinned", c)
		}
	}
	if extra := len(pinset) - len(acked); extra > 1 {
		p.t.Errorf("%d pins, of which %d were acknowledged", len(pinset), len(acked))
	}
}

// A peer that has no space for what it was given hands it on.
func TestFullPeerHandsOn(t *testing.T) {
	settings := map[string]string{"CLUSTER_REPAIR_BELOW_MAX_GRACE": "1h"}
	c := newCluster(t, 2, settings)
	small := newPeer(t, c.base, "small", settings)
	small.onSmallDisk(400)
	small.mustService("join", "--private", c.token())
	small.startReady()
	c.peers = append(c.peers, small)
	c.waitWhole()
	const reserve = 160 << 20
	small.fill(reserve + 40<<20)

	params := api.NewAddParams()
	params.NoPin, params.Local = true, true
	root, err := c.peers[0].addFrom(t.Context(), noise(100), params)
	if err != nil {
		t.Fatal(err)
	}
	result, err := c.peers[0].rest.Pin(t.Context(), root, api.PinOptions{ReplicationFactorMin: 2, ReplicationFactorMax: 2,
		UserAllocations: []peer.ID{small.id, c.peers[0].id}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(result.Pin.Allocations, small.id) {
		t.Fatalf("the pin was not given to the small peer, but to %v", result.Pin.Allocations)
	}
	eventually(t, 2*time.Minute, "the pin is on two other peers", func(ctx context.Context) error {
		pin, err := c.peers[0].rest.Allocation(ctx, root)
		if err != nil {
			return err
		}
		if slices.Contains(pin.Allocations, small.id) {
			info, err := small.status(ctx, root)
			return fmt.Errorf("the small peer still has it: %s %s %s %v", info.Status, info.ErrorCode, info.Error, err)
		}
		for _, p := range c.peers[:2] {
			if info, err := p.status(ctx, root); err != nil || info.Status != api.StatusPinned {
				return fmt.Errorf("%s: %s %s %v", p.name, info.Status, info.Error, err)
			}
		}
		return nil
	})
	for _, p := range c.peers[:2] {
		if _, err := p.refs(t.Context(), root.String()); err != nil {
			t.Error(err)
		}
	}
	if !small.running() {
		t.Errorf("the small peer ended: %v", small.exit)
	}
	c.noPanic()
}
