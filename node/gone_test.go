package node

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	blocks "github.com/ipfs/go-block-format"

	"holdfast/api"
)

// TestFilesGone takes files of the database away while nothing runs. The node
// opens or says what is wrong; what it opens on, it does not serve.
func TestFilesGone(t *testing.T) {
	for _, kind := range []string{"blob", "sst", "MANIFEST", "OPTIONS"} {
		t.Run(kind, func(t *testing.T) {
			ctx := testContext(t)
			c := testConfig(t)
			_, pin, _ := stored(t, c)
			pattern := "*." + kind
			if kind == "MANIFEST" || kind == "OPTIONS" {
				pattern = kind + "-*"
			}
			files, err := filepath.Glob(filepath.Join(c.Dir, "pebbleds", pattern))
			if err != nil || len(files) == 0 {
				t.Fatalf("no %s: %v", pattern, err)
			}
			for _, f := range files {
				if err := os.Remove(f); err != nil {
					t.Fatal(err)
				}
			}
			n, err := New(c, testLogger())
			if err != nil {
				t.Fatal(err)
			}
			runCtx, cancel := context.WithCancel(ctx)
			ended := make(chan error, 1)
			go func() { ended <- n.Run(runCtx) }()
			select {
			case err := <-ended:
				cancel()
				if kind == "blob" || !strings.Contains(err.Error(), "put them back") {
					t.Errorf("the node does not open: %v", err)
				}
				return
			case <-n.Ready():
			}
			complete, _, err := n.Complete(ctx, pin)
			if kind == "blob" {
				if complete || err != nil || len(n.Damaged()) == 0 {
					t.Errorf("complete is %v, %v, with %d damaged blocks", complete, err, len(n.Damaged()))
				}
				removed := 0
				if err := n.GC(ctx, func(api.RepoGCKey) { removed++ }); err == nil || removed > 0 {
					t.Errorf("collection removed %d blocks and ended with %v", removed, err)
				}
			} else if kind == "sst" || kind == "MANIFEST" {
				t.Error("the node opens")
			}
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
}

// TestSpoiltTable flips bits all over the tables that hold small blocks: each
// block is read as it was written, or not at all. (INV-BYTES)
func TestSpoiltTable(t *testing.T) {
	ctx := testContext(t)
	c := testConfig(t)
	n, stop := startStoppable(t, c)
	var all []blocks.Block
	for i := range 5_000 {
		all = append(all, rawBlock(t, fmt.Appendf(random(t, 200), "%d", i)))
	}
	if err := n.PutBlocks(ctx, all); err != nil {
		t.Fatal(err)
	}
	stop()
	_, stop = startStoppable(t, c) // writes tables of the log
	stop()
	files, err := filepath.Glob(filepath.Join(c.Dir, "pebbleds", "*.sst"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) < 500_000 {
			continue // not one of blocks
		}
		for at := len(data) / 4; at < len(data)/2; at += 100_000 { // in the blocks of data
			data[at] ^= 4
			flipped++
		}
		if err := os.WriteFile(f, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if flipped == 0 {
		t.Fatalf("no table of %v holds the blocks", files)
	}
	n = start(t, c)
	unread := 0
	for _, b := range all {
		got, err := n.open.read(ctx, b.Cid())
		switch {
		case err != nil:
			unread++
		case !bytes.Equal(got.RawData(), b.RawData()):
			t.Fatalf("block %s is read as another", b.Cid())
		}
	}
	if unread == 0 || unread == len(all) || len(n.Damaged()) == 0 {
		t.Errorf("%d of %d blocks cannot be read, %d are said to be damaged", unread, len(all), len(n.Damaged()))
	}
	if err := n.GC(ctx, func(api.RepoGCKey) {}); err == nil {
		t.Error("a collection that cannot list all blocks ends well")
	}
}
