package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/api"
)

// A full disk, a limit that is reached and a folder that cannot be written are
// told, each with its cause; so is that there is little left.
func TestDisks(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name                          string
		free, used, max, disk, folder uint64
		write, node                   error
		want, words                   string
	}{
		{name: "all is well", free: 50 << 30, disk: 51 << 30},
		{name: "the disk is full", disk: 160 * mib, want: api.AlertDiskFull, words: "160 MiB of 100 GiB left"},
		{name: "little is left on the disk", free: 300 * mib, disk: 500 * mib, want: api.AlertDiskLow, words: "only 300 MiB"},
		{name: "storage_max is reached", used: 10 << 30, max: 10 << 30, disk: 50 << 30, want: api.AlertDiskFull, words: "10 GiB of 10 GiB (ipfs.storage_max)"},
		{name: "storage_max is near", free: 10 * mib, used: 990 * mib, max: 1000 * mib, disk: 50 << 30, want: api.AlertDiskLow, words: "990 MiB of 1000 MiB (ipfs.storage_max)"},
		{name: "a small storage_max", free: 90 * mib, used: 10 * mib, max: 100 * mib, disk: 50 << 30},
		{name: "storage_max is far, the disk is not", max: 10 << 40, disk: 160 * mib, want: api.AlertDiskFull, words: "of 100 GiB left"},
		{name: "the raft log has no room", free: 50 << 30, disk: 51 << 30, folder: 10 * mib, want: api.AlertFolder, words: "10 MiB are left for the raft log"},
		{name: "read-only", free: 50 << 30, disk: 51 << 30, write: syscall.EROFS, want: api.AlertFolder, words: "read-only file system"},
		{name: "a node that is broken", node: errors.New("gone"), disk: 51 << 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.folder == 0 {
				c.folder = 50 << 30
			}
			k := &disks{dir: "peer", storageMax: c.max,
				free: func(context.Context) (uint64, error) { return c.free, c.node },
				used: func(context.Context) (uint64, error) { return c.used, nil },
				room: func(path string) (uint64, uint64, error) {
					if path == "peer" {
						return c.folder, 100 << 30, nil
					}
					return c.disk, 100 << 30, nil
				},
				write: func(string) error { return c.write }}
			got := k.look(t.Context())
			switch {
			case c.want == "":
				if len(got) != 0 {
					t.Errorf("got %+v", got)
				}
			case len(got) != 1 || got[0].Name != c.want || !strings.Contains(got[0].Message, c.words):
				t.Errorf("got %+v, want %s with %q", got, c.want, c.words)
			}
		})
	}
}

// The test of a folder leaves nothing behind, and notices what it is for.
func TestTryWrite(t *testing.T) {
	dir := t.TempDir()
	if err := tryWrite(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if tryWrite(filepath.Join(dir, "none")) == nil {
		t.Error("a folder that is not there can be written")
	}
	if free, total, err := room(dir); err != nil || free == 0 || total < free {
		t.Errorf("%d of %d bytes are free, %v", free, total, err)
	}
}
