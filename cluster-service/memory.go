package main

import (
	"io/fs"
	"log/slog"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"holdfast/internal/heap"
)

// limitMemory makes Go's runtime keep within the memory limit of the container
// or service, unless GOMEMLIMIT says something already. A tenth is left for
// what the runtime does not count.
func (p program) limitMemory(root fs.FS, logger *slog.Logger) {
	if _, given := p.environment("GOMEMLIMIT"); given {
		return
	}
	limit, ok := cgroupMemory(root)
	if !ok {
		return
	}
	debug.SetMemoryLimit(limit / 10 * 9)
	logger.Info("keeping within the memory limit", "bytes", limit)
}

// collectLate paces the garbage collections of a process of so many peers, unless
// GOGC says something already.
func (p program) collectLate(peers int) (stop func()) {
	if _, given := p.environment("GOGC"); given {
		return func() {}
	}
	return heap.Room(uint64(peers) * heap.Peer)
}

// cgroupMemory is the limit, in bytes, of the control group of this process:
// its own, as systemd sets it, or that which it sees as the root, as container
// engines do. It reports false for none.
func cgroupMemory(root fs.FS) (int64, bool) {
	for _, file := range []string{
		path.Join("sys/fs/cgroup", ownCgroup(root), "memory.max"), // version 2
		"sys/fs/cgroup/memory.max",
		"sys/fs/cgroup/memory/memory.limit_in_bytes", // version 1; no limit is a number close to 2^63
	} {
		data, err := fs.ReadFile(root, file)
		if err != nil {
			continue
		}
		limit, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err == nil && limit > 0 && limit < 1<<60 {
			return limit, true
		}
	}
	return 0, false
}

// ownCgroup is the path of this process's control group of version 2.
func ownCgroup(root fs.FS) string {
	data, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return own
		}
	}
	return ""
}
