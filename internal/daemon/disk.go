package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"

	"holdfast/api"
)

const (
	// diskInterval is how often a peer tries its disks.
	diskInterval = 10 * time.Second
	// folderReserve is what pinset, raft log and tracker may need at any moment:
	// Pebble and the log allocate their next files ahead.
	folderReserve = 128 << 20
	// lowShare is which part of the space for blocks is left when there is
	// little, lowBytes how much there is little at most.
	lowShare = 20
	lowBytes = 4 << 30
)

// disks tells what is wrong with the disks below a peer's folder. The raft log
// and the pinset stand on them: a peer that cannot write there must end.
type disks struct {
	dir        string
	storageMax uint64                                // ipfs.storage_max; 0: none
	free       func(context.Context) (uint64, error) // what new blocks may take
	used       func(context.Context) (uint64, error) // what the IPFS repository takes
	room       func(path string) (free, total uint64, err error)
	write      func(dir string) error
	found      atomic.Pointer[[]api.Condition]
}

func (d *Daemon) newDisks() *disks {
	return &disks{dir: d.opts.Dir, storageMax: uint64(d.opts.Config.IPFSStorageMax), free: d.node.Free, used: d.node.RepoSize, room: room, write: tryWrite}
}

// Run looks at the disks until ctx ends.
func (k *disks) Run(ctx context.Context) error {
	for {
		found := k.look(ctx)
		k.found.Store(&found)
		if !sleep(ctx, diskInterval) {
			return nil
		}
	}
}

// Conditions are what the last look found.
func (k *disks) Conditions() []api.Condition {
	if found := k.found.Load(); found != nil {
		return append([]api.Condition{}, *found...)
	}
	return nil
}

func (k *disks) look(ctx context.Context) []api.Condition {
	ctx, cancel := context.WithTimeout(ctx, diskInterval)
	defer cancel()
	return append(k.lookAtFolder(), k.lookAtBlocks(ctx)...)
}

// lookAtFolder is about the disk that holds the raft log and the pinset.
func (k *disks) lookAtFolder() []api.Condition {
	if err := k.write(k.dir); err != nil {
		return []api.Condition{{Name: api.AlertFolder, Message: fmt.Sprintf("the peer's folder cannot be written: %v; the peer stops with its next write. Repair the disk, or make room on it", err)}}
	}
	free, _, err := k.room(k.dir)
	switch {
	case err != nil:
		return []api.Condition{{Name: api.AlertFolder, Message: "the disk below the peer's folder cannot be asked for its free space: " + err.Error()}}
	case free < folderReserve/2:
		return []api.Condition{{Name: api.AlertFolder, Message: fmt.Sprintf("the disk below %s is full: %s are left for the raft log and the pinset, and the peer stops when they are used up. Make room, or give it a larger disk", k.dir, humanize.IBytes(free))}}
	}
	return nil
}

// lookAtBlocks is about the space for blocks, which is limited by the disk and
// by ipfs.storage_max.
func (k *disks) lookAtBlocks(ctx context.Context) []api.Condition {
	free, err := k.free(ctx)
	if err != nil {
		return nil // that the node does not work is an alert of its own
	}
	limit, cause, err := k.limit(ctx, free)
	if err != nil {
		return nil
	}
	low := limit / lowShare
	if k.storageMax == 0 {
		low = min(low, lowBytes)
	}
	const todo = ". Unpin what is not needed and collect garbage ('cluster-ctl ipfs gc'), raise the limit or give it a larger disk, or add a peer"
	switch {
	case free == 0:
		return []api.Condition{{Name: api.AlertDiskFull, Message: "no space for blocks is left: " + cause + "; pins and uploads go to other peers as far as they have space" + todo}}
	case free < low:
		return []api.Condition{{Name: api.AlertDiskLow, Message: fmt.Sprintf("only %s are left for blocks: %s%s", humanize.IBytes(free), cause, todo)}}
	}
	return nil
}

// limit is how many bytes of blocks there can be, and what sets the limit.
func (k *disks) limit(ctx context.Context, free uint64) (uint64, string, error) {
	used, err := k.used(ctx)
	if err != nil {
		return 0, "", err
	}
	disk, total, err := k.room(filepath.Join(k.dir, "ipfs"))
	if err != nil {
		return 0, "", err
	}
	if k.storageMax > 0 && (used >= k.storageMax || k.storageMax-used <= free) {
		return k.storageMax, fmt.Sprintf("the repository has %s of %s (ipfs.storage_max)", humanize.IBytes(used), humanize.IBytes(k.storageMax)), nil
	}
	return total, fmt.Sprintf("the disk below %s has %s of %s left, and a part of that is kept in reserve", filepath.Join(k.dir, "ipfs"), humanize.IBytes(disk), humanize.IBytes(total)), nil
}

// room is the free space for this user and the size of the disk below a path.
func room(path string) (free, total uint64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", path, err)
	}
	return st.Bavail * uint64(st.Bsize), st.Blocks * uint64(st.Bsize), nil
}

// tryWrite writes a file and removes it: a file system that turned read-only
// after an error would else be noticed by what it costs.
func tryWrite(dir string) error {
	path := filepath.Join(dir, "write-test")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("this peer tries whether its folder can be written\n"))
	return errors.Join(err, f.Close(), os.Remove(path))
}
