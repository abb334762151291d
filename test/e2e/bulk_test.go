//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"testing"
	"time"

	"holdfast/api"
)

// bulkInput are pins of CIDs that nobody has; every tenth line unpins the CID of
// the line five before it.
func bulkInput(t *testing.T, seed uint64, n int) iter.Seq[api.BulkLine] {
	return func(yield func(api.BulkLine) bool) {
		for i := 1; i <= n; i++ {
			line := api.BulkLine{Line: i, Cid: rawCid(t, seed, uint64(i)), Options: api.PinOptions{Name: fmt.Sprint("line ", i)}}
			if i%10 == 0 {
				line = api.BulkLine{Line: i, Cid: rawCid(t, seed, uint64(i-5)), Unpin: true}
			}
			if !yield(line) {
				return
			}
		}
	}
}

// A bulk write through a follower goes on when the leader is killed in the
// middle: every line has one result, in order, and what was acknowledged is on
// every peer. The same body under the same key has the same results.
func TestBulkWhileLeaderDies(t *testing.T) {
	random := seeded(t)
	c := newCluster(t, 3, ackedSettings)
	leader := c.leader()
	via := c.peers[0]
	if via == leader {
		via = c.peers[1]
	}
	const total, killAt = 20_000, 5_000
	seed := random.Uint64()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	run := func(each func(line int)) []string {
		results := make([]string, 0, total)
		for result, err := range via.rest.Bulk(ctx, bulkInput(t, seed, total), "the key of this test") {
			if err != nil {
				t.Fatalf("after line %d: %v", len(results), err)
			}
			if result.Line != len(results)+1 || result.Err != nil {
				t.Fatalf("result %d is of line %d: %v", len(results)+1, result.Line, result.Err)
			}
			results = append(results, string(result.JSON))
			each(result.Line)
		}
		return results
	}
	first := run(func(line int) {
		if line == killAt {
			leader.kill()
		}
	})
	if len(first) != total {
		t.Fatalf("%d results of %d lines", len(first), total)
	}
	leader.startReady()
	c.waitWhole()
	want := checkResults(t, seed, first)
	if got := c.samePinset(time.Minute); len(got) != len(want) {
		t.Errorf("the pinset has %d pins, want %d", len(got), len(want))
	} else {
		for id := range want {
			if _, ok := got[id]; !ok {
				t.Fatalf("%s was acknowledged and is not pinned", id)
			}
		}
	}
	for i, again := range run(func(int) {}) {
		if again != first[i] {
			t.Fatalf("line %d again: %s\nfirst %s", i+1, again, first[i])
		}
	}
	if got := c.samePinset(time.Minute); len(got) != len(want) {
		t.Errorf("after the repeat the pinset has %d pins, want %d", len(got), len(want))
	}
	c.noPanic()
}

// checkResults says which CIDs must be pinned after all lines, and that each
// result is about its line's.
func checkResults(t *testing.T, seed uint64, results []string) map[string]bool {
	t.Helper()
	pinned := map[string]bool{}
	i := 0
	for line := range bulkInput(t, seed, len(results)) {
		var pin api.Pin
		if err := json.Unmarshal([]byte(results[i]), &pin); err != nil || pin.Cid != line.Cid {
			t.Fatalf("line %d is about %s: %s %v", line.Line, line.Cid, results[i], err)
		}
		if pinned[line.Cid.String()] = true; line.Unpin {
			delete(pinned, line.Cid.String())
		}
		i++
	}
	return pinned
}
