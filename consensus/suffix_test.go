package consensus

import (
	"testing"

	"github.com/hashicorp/raft"
)

// A follower cuts off the end of its log whenever a deposed leader's entries
// are in it. raft-wal before v0.4.1 could not open such a log again
// (hashicorp/raft-wal#31): the peer was lost for good.
func TestLogOpensAfterItsEndWasCutOff(t *testing.T) {
	dir := t.TempDir()
	logs, stable, closeStores, err := OpenStores(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := stable.SetUint64([]byte(keyCurrentTerm), 1); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(10) {
		if err := logs.StoreLog(&raft.Log{Index: i + 1, Term: 1, Data: []byte{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := logs.DeleteRange(8, 10); err != nil {
		t.Fatal(err)
	}
	if err := logs.StoreLog(&raft.Log{Index: 8, Term: 2}); err != nil {
		t.Fatal(err)
	}
	if err := closeStores(); err != nil {
		t.Fatal(err)
	}
	logs, _, closeStores, err = OpenStores(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closeStores()
	for i := range uint64(8) {
		var entry raft.Log
		if err := logs.GetLog(i+1, &entry); err != nil {
			t.Fatalf("entry %d: %v", i+1, err)
		}
	}
}
