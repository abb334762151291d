package pintracker

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// BenchmarkPins pins small pins with a node that takes no time; the figure is
// what the tracker itself costs.
func BenchmarkPins(b *testing.B) {
	b.Run("memory", func(b *testing.B) { benchmarkPins(b, vfs.NewMem()) })
	b.Run("disk", func(b *testing.B) { benchmarkPins(b, vfs.Default) })
}

func benchmarkPins(b *testing.B, fs vfs.FS) {
	r := newRig(b)
	r.dir, r.fs = b.TempDir(), fs
	r.source.keep = 1 << 20
	done := make(chan struct{}, 1)
	left := b.N
	r.events.Pinned = func(api.PinInfo) {
		if left--; left == 0 {
			done <- struct{}{}
		}
	}
	pins := make([]api.Pin, b.N)
	for i := range pins {
		pins[i] = api.Pin{PinOptions: api.PinOptions{Mode: api.ModeRecursive, Name: "bench"}, Cid: api.NewCid(nthCid(i)),
			Type: api.TypeData, Allocations: []peer.ID{self}, Timestamp: time.Now()}
	}
	r.start()
	b.ResetTimer()
	for i := 0; i < len(pins); i += 100 {
		r.source.set(pins[i:min(i+100, len(pins))]...)
	}
	<-done
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pins/s")
	b.ReportMetric(float64(b.N)/float64(r.node.calls), "pins/call")
	r.stop()
}
