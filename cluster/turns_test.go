package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/api"
)

// Many writers of one pin queue: none is refused because of the others, whether
// they come one by one or in bulk.
func TestWritersOfOnePinQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3, nil)
		w.pace = time.Millisecond // between a decision and its place in the log
		const writers = 50
		var writing sync.WaitGroup
		for i := range writers {
			writing.Go(func() {
				options := api.PinOptions{Name: fmt.Sprint(i)}
				if i%2 == 0 {
					if _, err := w.cluster.Pin(t.Context(), pinRequest(testCid(1), options)); err != nil {
						t.Errorf("writer %d: %v", i, err)
					}
					return
				}
				if refusal := bulkAll(t, w.cluster, []api.BulkLine{bulkPin(1, 1, options)})[0].Err; refusal != nil {
					t.Errorf("bulk writer %d: %v", i, refusal)
				}
			})
		}
		writing.Wait()
		if len(w.cluster.turns.pins) != 0 {
			t.Errorf("%d pins are still waited for", len(w.cluster.turns.pins))
		}
	})
}

// Who gives up leaves the queue, and does not hold up those behind.
func TestTurnsAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all turns
		first, err := all.take(t.Context(), testCid(1).Cid)
		if err != nil {
			t.Fatal(err)
		}
		other, err := all.take(t.Context(), testCid(2).Cid)
		if err != nil {
			t.Fatal(err)
		}
		other()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := all.take(short, testCid(1).Cid); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		var next sync.WaitGroup
		next.Go(func() {
			done, err := all.take(t.Context(), testCid(1).Cid)
			if err != nil {
				t.Error(err)
				return
			}
			done()
		})
		synctest.Wait()
		first()
		next.Wait()
		if len(all.pins) != 0 {
			t.Errorf("%d pins are still waited for", len(all.pins))
		}
	})
}
