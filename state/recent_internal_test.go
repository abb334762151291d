package state

import (
	"fmt"
	"testing"
)

// The pins that changed last are kept in memory by number and by bytes: large
// ones do not take more than small ones.
func TestRecentIsBoundedByBytes(t *testing.T) {
	r := newRecent()
	large := make([]byte, 20<<10)
	check := func(n int) {
		t.Helper()
		held := 0
		for _, value := range r.values {
			held += len(value)
		}
		if held != r.bytes || held > recentBytes || len(r.values) != len(r.order) || len(r.order) > recentPins {
			t.Fatalf("after %d values: %d bytes, counted as %d, of at most %d; %d values, %d in order", n, held, r.bytes, recentBytes, len(r.values), len(r.order))
		}
	}
	for n := range 3 * recentPins {
		value := large
		switch {
		case n >= recentPins && n < 2*recentPins+100:
			value = large[:10] // the ring goes round
		case n%7 == 0:
			value = nil
		}
		r.put(fmt.Sprint(n), value)
		if n%5 == 0 {
			r.put(fmt.Sprint(n/2), large[:n%len(large)])
		}
		if got, known := r.values[fmt.Sprint(n)]; !known || len(got) != len(value) && n > 0 {
			t.Fatalf("value %d was forgotten at once (%v, %d bytes)", n, known, len(got))
		}
		if n%500 == 0 {
			check(n)
		}
	}
	check(3 * recentPins)
	if len(r.values) < recentBytes/2/len(large) {
		t.Errorf("only %d values are left", len(r.values))
	}
}
