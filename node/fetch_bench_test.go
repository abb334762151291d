package node

import (
	"os"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// BenchmarkAddAndFetch adds a file of 512 MiB to one node through Kubo's RPC,
// and has another fetch it. Run with -benchtime=1x.
func BenchmarkAddAndFetch(b *testing.B) {
	for _, kind := range []BlockStore{BlocksPebble, BlocksFlatfs} {
		b.Run(string(kind), func(b *testing.B) {
			for b.Loop() {
				config := func() Config {
					c := testConfig(b)
					c.BlockStore = kind
					return c
				}
				source, sink := start(b, config()), start(b, config())
				acquaint(source, sink)
				const size = 512 << 20
				data := random(b, size)
				at, used := time.Now(), cpu()
				root := add(b, source, data, "pin=false")
				b.ReportMetric(size/1e6/time.Since(at).Seconds(), "add-MB/s")
				b.ReportMetric((cpu() - used).Seconds(), "add-cpu-s")
				at, used = time.Now(), cpu()
				if err := sink.Fetch(b.Context(), dataPin(root), []peer.AddrInfo{info(source)}, nil); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(size/1e6/time.Since(at).Seconds(), "fetch-MB/s")
				b.ReportMetric((cpu() - used).Seconds(), "fetch-cpu-s")
			}
		})
	}
}

// BenchmarkIdle tells the memory of three nodes in one process at rest.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		var infos []peer.AddrInfo
		var nodes []*Node
		for range 3 {
			n := start(b, testConfig(b))
			nodes, infos = append(nodes, n), append(infos, info(n))
		}
		for _, n := range nodes {
			n.Peer(infos)
		}
		<-time.After(3 * time.Second)
		debug.FreeOSMemory()
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			b.Skip(err)
		}
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "VmRSS") {
				b.Log(strings.TrimSpace(line))
			}
		}
	}
}
