package consensus

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

func TestInspect(t *testing.T) {
	fs := vfs.NewMem()
	s := openSnapshots(t, fs) // in /data/snapshots
	for _, index := range []uint64{5, 10} {
		if _, err := takeSnapshot(s, machineAt(t, fs, index), index); err != nil {
			t.Fatal(err)
		}
	}
	command := encodeEntry([][]byte{{1}})
	logs := raft.NewInmemStore()
	store := func(index uint64, kind raft.LogType, data []byte) {
		t.Helper()
		if err := logs.StoreLog(&raft.Log{Index: index, Term: 1, Type: kind, Data: data}); err != nil {
			t.Fatal(err)
		}
	}
	for index := uint64(8); index <= 14; index++ {
		store(index, raft.LogCommand, command)
	}
	store(15, raft.LogNoop, nil)
	store(16, raft.LogCommand, encodeEntry(nil))
	inspect := func(applied uint64) (Inspection, string) {
		t.Helper()
		var problems []string
		found, err := Inspect(fs, "/data", logs, applied, func(p string) { problems = append(problems, p) })
		if err != nil {
			t.Fatal(err)
		}
		return found, strings.Join(problems, "\n")
	}
	if found, problems := inspect(12); problems != "" || found != (Inspection{First: 8, Last: 16, Snapshot: 10, Unapplied: 2}) {
		t.Errorf("%+v, %s", found, problems)
	}
	if _, problems := inspect(17); !strings.Contains(problems, "contains entry 17") {
		t.Errorf("a pinset from nowhere: %s", problems)
	}
	store(13, raft.LogCommand, []byte{9})
	if _, problems := inspect(16); !strings.Contains(problems, "log entry 13: entry has version 9") {
		t.Errorf("an entry of a later version: %s", problems)
	}
	newest := ids(t, s)[0]
	if err := fs.Remove(s.path(newest, metaFile)); err != nil {
		t.Fatal(err)
	}
	_, problems := inspect(16)
	for _, text := range []string{"snapshot " + newest, "the log begins at 8, but the newest whole snapshot ends at 5"} {
		if !strings.Contains(problems, text) {
			t.Errorf("without a meta file: %s", problems)
		}
	}
}
