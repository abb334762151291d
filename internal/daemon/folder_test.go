package daemon

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

// A command on a stopped peer has its folder for a moment; a peer that starts
// then waits for it, and gives up on one that another peer has.
func TestAwaitFolder(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		command, err := lockFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if _, err := awaitFolder(t.Context(), dir, slog.New(slog.DiscardHandler)); !errors.Is(err, errLocked) || time.Since(begun) != folderPatience {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		time.AfterFunc(folderPatience/2, func() {
			if err := command(); err != nil {
				t.Error(err)
			}
		})
		begun = time.Now()
		peer, err := awaitFolder(t.Context(), dir, slog.New(slog.DiscardHandler))
		if err != nil || time.Since(begun) >= folderPatience {
			t.Fatalf("after %v: %v", time.Since(begun), err)
		}
		if err := peer(); err != nil {
			t.Error(err)
		}
	})
}
