//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

// TestRepositoryDeleted: a peer that is started without its IPFS repository calls
// nothing pinned that it has not fetched again, and fetches everything. A bit
// that flips on the disk takes its pin out of pinned until the block was fetched
// from another peer.
func TestRepositoryDeleted(t *testing.T) {
	c := newCluster(t, 3, nil)
	p, via := c.peers[2], c.peers[0]
	content := map[string][]byte{}
	random := rand.NewChaCha8([32]byte{1})
	for _, size := range []int{6 << 20, 300 << 10, 1000, 10} {
		data := make([]byte, size)
		if _, err := io.ReadFull(random, data); err != nil {
			t.Fatal(err)
		}
		id, err := via.addBytes(t.Context(), data, api.AddParams{PinOptions: api.PinOptions{ReplicationFactorMin: -1, ReplicationFactorMax: -1}})
		if err != nil {
			t.Fatal(err)
		}
		content[id.String()] = data
	}
	pinned := func() {
		t.Helper()
		for id, data := range content {
			c.pinnedOn(p, via, id)
			got, err := p.cat(t.Context(), id)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s has %d bytes of %s, %v; they are %d", p.name, len(got), id, err, len(data))
			}
		}
	}
	pinned()

	if _, err := p.stop(time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(p.dir, "ipfs")); err != nil {
		t.Fatal(err)
	}
	p.start()
	pinned()

	if _, err := p.stop(time.Minute); err != nil {
		t.Fatal(err)
	}
	flipBit(t, filepath.Join(p.dir, "ipfs"))
	p.startReady()
	for id := range content { // somebody reads
		_, _ = p.cat(t.Context(), id)
	}
	if lines := p.logLines("damaged"); len(lines) == 0 {
		t.Fatal("nobody noticed the flipped bit")
	}
	pinned()
}

// pinnedOn waits until a pin is said to be pinned on a peer, and checks at once
// that its blocks are there.
func (c *testCluster) pinnedOn(p, via *testPeer, id string) {
	c.t.Helper()
	decoded, err := api.DecodeCid(id)
	if err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, 2*time.Minute, id+" is pinned on "+p.name, func(ctx context.Context) error {
		status, err := via.rest.Status(ctx, decoded, false)
		if err != nil {
			return err
		}
		if got := status.PeerMap[p.id.String()]; got.Status != api.StatusPinned {
			return fmt.Errorf("it is %s (%s)", got.Status, got.Error)
		}
		if _, err := p.refs(ctx, id); err != nil && !errors.Is(err, context.DeadlineExceeded) && strings.Contains(err.Error(), "not") {
			c.t.Fatalf("%s says that %s has pinned %s, which is not so: %v", via.name, p.name, id, err)
		} else if err != nil {
			return err
		}
		return nil
	})
}

// flipBit flips one bit in the middle of the largest file of values.
func flipBit(t *testing.T, dir string) {
	t.Helper()
	var largest string
	var size int64
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".blob" {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil || largest == "" {
		t.Fatalf("no file of values in %s: %v", dir, err)
	}
	f, err := os.OpenFile(largest, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	one := make([]byte, 1)
	if _, err := f.ReadAt(one, size/2); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 4
	if _, err := f.WriteAt(one, size/2); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
