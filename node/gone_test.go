package node

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
