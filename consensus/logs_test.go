package consensus

import (
	"errors"
	"fmt"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// entries returns log entries low to high of a term.
func entries(low, high, term uint64) []*raft.Log {
	var out []*raft.Log
	for i := low; i <= high; i++ {
		out = append(out, &raft.Log{Index: i, Term: term, Data: fmt.Append(nil, i)})
	}
	return out
}

func TestReconcile(t *testing.T) {
	stores := map[string]func(*testing.T) raft.LogStore{
		"memory": func(*testing.T) raft.LogStore { return raft.NewInmemStore() },
		"disk": func(t *testing.T) raft.LogStore {
			logs, _, closeStores, err := OpenStores(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = closeStores() })
			return logs
		},
	}
	for store, open := range stores {
		for _, test := range []struct {
			name        string
			log         []*raft.Log
			index, term uint64 // of the snapshot
			first, last uint64 // of the log afterwards
			known       bool   // the snapshot's last entry can be asked for
		}{
			{name: "empty log", index: 10, term: 3, known: true},
			{name: "log ends before", log: entries(1, 5, 1), index: 10, term: 3, known: true},
			{name: "log begins behind", log: entries(11, 15, 3), index: 10, term: 3, first: 11, last: 15, known: true},
			{name: "log agrees", log: append(entries(1, 8, 1), entries(9, 15, 3)...), index: 10, term: 3, first: 1, last: 15, known: true},
			{name: "log conflicts", log: entries(1, 15, 1), index: 10, term: 3, first: 11, last: 15, known: true},
			{name: "log conflicts at its end", log: entries(1, 10, 1), index: 10, term: 3, known: true},
			{name: "log conflicts at its start", log: entries(10, 15, 1), index: 10, term: 3, first: 11, last: 15, known: true},
			{name: "first entry alone", index: 1, term: 1},
		} {
			t.Run(store+"/"+test.name, func(t *testing.T) {
				f := &fencedLogs{LogStore: open(t), fatal: func(err error) { t.Error(err) }}
				if len(test.log) > 0 {
					if err := f.StoreLogs(test.log); err != nil {
						t.Fatal(err)
					}
				}
				for range 2 { // again at every start
					if err := f.reconcile(test.index, test.term); err != nil {
						t.Fatal(err)
					}
					first, last, err := f.bounds()
					if err != nil || first != test.first || last != test.last {
						t.Fatalf("log from %d to %d, %v; want %d to %d", first, last, err, test.first, test.last)
					}
				}
				var entry raft.Log
				if err := f.GetLog(test.index, &entry); (err == nil) != test.known || (test.known && entry.Term != test.term) {
					t.Fatalf("the snapshot's last entry: term %d, %v", entry.Term, err)
				}
				if err := f.GetLog(100, &entry); err != raft.ErrLogNotFound { // raft compares so
					t.Fatalf("entry 100: %v", err)
				}
				// What raft does next: replace what conflicts, and append.
				if err := errors.Join(f.DeleteRange(0, test.index-1), f.DeleteRange(test.index+1, 1000)); err != nil {
					t.Fatal(err)
				}
				if _, last, _ := f.bounds(); last == 0 || last == test.index {
					if err := f.StoreLogs(entries(test.index+1, test.index+3, 4)); err != nil {
						t.Fatal(err)
					}
				}
			})
		}
	}
}

// Raft must not take the fenced store for a monotonic one: it would drop the
// whole log after a snapshot, and still believe in the entries behind it.
func TestFencedLogsAreNotMonotonic(t *testing.T) {
	if _, ok := any(&fencedLogs{LogStore: &wal.WAL{}}).(raft.MonotonicLogStore); ok {
		t.Fatal("raft takes the log for monotonic")
	}
}
