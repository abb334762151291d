package cluster

import (
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	var p progress
	start := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	if p.lag(0, start) != farBehind {
		t.Error("nothing is known, and yet nothing is missing")
	}
	p.note(10, at(0))
	p.note(10, at(1)) // nothing new
	p.note(30, at(2))
	p.note(50, at(7))
	for _, test := range []struct {
		index uint64
		want  time.Duration
	}{
		{50, 0}, {51, 0}, // it can be ahead of the last sample
		{49, 3 * time.Second}, {30, 3 * time.Second},
		{29, 8 * time.Second}, {10, 8 * time.Second},
		{9, farBehind}, {0, farBehind},
	} {
		if got := p.lag(test.index, at(10)); got != test.want {
			t.Errorf("lag of %d: %v, want %v", test.index, got, test.want)
		}
	}
	for i := range 2 * progressKept {
		p.note(uint64(100+i), at(20+i))
	}
	if len(p.samples) != progressKept || p.lag(100, at(1000)) != farBehind || p.lag(uint64(100+2*progressKept-2), at(20+2*progressKept)) != time.Second {
		t.Errorf("%d samples; %v and %v", len(p.samples), p.lag(100, at(1000)), p.lag(uint64(100+2*progressKept-2), at(20+2*progressKept)))
	}
	p.begin()
	if p.lag(1000, at(5000)) != farBehind {
		t.Error("an earlier leadership is remembered")
	}
}
