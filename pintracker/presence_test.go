package pintracker

import (
	"fmt"
	"testing"
)

func TestPresence(t *testing.T) {
	var p presence
	if p.add("early"); !p.may("anything") {
		t.Error("it knows something before it was filled")
	}
	p.begin(10)
	const n = 10 * presenceRoom
	for i := range n {
		p.add(fmt.Sprint("record", i))
	}
	if !p.may("anything") {
		t.Error("it knows something before it was complete")
	}
	p.complete()
	wrong := 0
	for i := range n {
		if !p.may(fmt.Sprint("record", i)) {
			t.Fatalf("record %d is said not to be", i)
		}
		if p.may(fmt.Sprint("other", i)) {
			wrong++
		}
	}
	// Each layer adds its share.
	if limit := presenceWrong * float64(len(p.layers)+1); float64(wrong)/n > limit {
		t.Errorf("%d of %d others may be there; at most %.0f %% shall", wrong, n, 100*limit)
	}
	added := p.added
	p.add("record1")
	if p.added != added {
		t.Error("what was added twice takes room twice")
	}
	if p.stale(n) || !p.stale(n/8) {
		t.Errorf("of %d CIDs, stale with all records: %v, with an eighth: %v", p.added, p.stale(n), p.stale(n/8))
	}
	p.begin(n)
	if !p.may("anything") || len(p.layers) != 1 {
		t.Error("the new beginning is none")
	}
}
