package heap

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestPercentFor(t *testing.T) {
	const room = 64 << 20
	for _, test := range []struct {
		live uint64
		want int
	}{
		{0, 2000}, {1 << 20, 2000}, {32 << 20, 200}, {40 << 20, 160}, {64 << 20, 100}, {100 << 20, 60}, {128 << 20, 50}, {1 << 30, 50},
	} {
		if got := percentFor(test.live, room); got != test.want {
			t.Errorf("with %d bytes in use: %d, want %d", test.live, got, test.want)
		}
	}
}

func TestRoom(t *testing.T) {
	r := &room{bytes: 128 << 20}
	r.watch()
	// It hears of a collection a moment later.
	for set := false; !set; {
		runtime.GC()
		r.mu.Lock()
		if set = r.percent != 0; set {
			if got := debug.SetGCPercent(r.percent); got != r.percent || got <= percentDefault {
				t.Errorf("%d percent are set, want %d, for the little that a test uses", got, r.percent)
			}
			if want := percentFor(inUse(), r.bytes); r.percent != want {
				t.Errorf("%d percent for %d bytes in use, want %d", r.percent, inUse(), want)
			}
		}
		r.mu.Unlock()
	}
	r.stop()
	for range 3 {
		runtime.GC()
	}
	if got := debug.SetGCPercent(percentDefault); got != percentDefault {
		t.Errorf("%d percent after the end", got)
	}
}
