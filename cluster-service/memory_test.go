package main

import (
	"testing"
	"testing/fstest"
)

func TestCgroupMemory(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"none":                {},
		"version 2":           {map[string]string{"sys/fs/cgroup/memory.max": "2147483648\n"}, 1 << 31},
		"version 2, no limit": {map[string]string{"sys/fs/cgroup/memory.max": "max\n"}, 0},
		"version 1":           {map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n"}, 1 << 30},
		"version 1, no limit": {map[string]string{"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"a service": {map[string]string{"proc/self/cgroup": "0::/system.slice/holdfast.service\n",
			"sys/fs/cgroup/system.slice/holdfast.service/memory.max": "1073741824\n"}, 1 << 30},
		"a service, no limit": {map[string]string{"proc/self/cgroup": "0::/system.slice/holdfast.service\n",
			"sys/fs/cgroup/system.slice/holdfast.service/memory.max": "max\n"}, 0},
	} {
		root := fstest.MapFS{}
		for path, text := range test.files {
			root[path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got, ok := cgroupMemory(root); got != test.want || ok != (test.want > 0) {
			t.Errorf("%s: %d, %v; want %d", name, got, ok, test.want)
		}
	}
}
