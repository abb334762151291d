package presence

import (
	"fmt"
	"testing"
)

func TestSet(t *testing.T) {
	var p Set
	if p.Add("early"); !p.May("anything") {
		t.Error("it knows something before it was filled")
	}
	p.Begin(10)
	const n = 10 * leastRoom
	for i := range n {
		p.Add(fmt.Sprint("record", i))
	}
	if !p.May("anything") {
		t.Error("it knows something before it was complete")
	}
	p.Complete()
	unknown := 0
	for i := range n {
		if !p.May(fmt.Sprint("record", i)) {
			t.Fatalf("record %d is said not to be", i)
		}
		if p.May(fmt.Sprint("other", i)) {
			unknown++
		}
	}
	// Each layer adds its share.
	if limit := wrong * float64(len(p.layers)+1); float64(unknown)/n > limit {
		t.Errorf("%d of %d others may be there; at most %.0f %% shall", unknown, n, 100*limit)
	}
	added := p.added
	p.Add("record1")
	if p.added != added {
		t.Error("what was added twice takes room twice")
	}
	if p.Stale(n) || !p.Stale(n/8) {
		t.Errorf("of %d CIDs, stale with all records: %v, with an eighth: %v", p.added, p.Stale(n), p.Stale(n/8))
	}
	p.Begin(n)
	if !p.May("anything") || len(p.layers) != 1 {
		t.Error("the new beginning is none")
	}
}
