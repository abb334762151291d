package node

import (
	"sync/atomic"
	"time"

	blocks "github.com/ipfs/go-block-format"
)

// Stats count what a node has done since it was made.
type Stats struct {
	Connected    int    // nodes that it is connected with now
	Verified     uint64 // blocks that were read from the disk and are whole
	Damaged      int    // blocks that are damaged now
	DamageFound  uint64 // blocks that turned out to be damaged
	FetchedCount uint64 // blocks that came from other nodes
	FetchedBytes uint64

	Collections       uint64        // of garbage, also those that failed
	CollectionsFailed uint64        // of these
	CollectionTime    time.Duration // that they took together
	CollectedBlocks   uint64
	CollectedBytes    uint64 // of these blocks
}

// counters are behind Stats.
type counters struct {
	fetchedBlocks, fetchedBytes                                               atomic.Uint64
	collections, collectionsFailed, collectionTime, removedBlocks, freedBytes atomic.Uint64
}

// fetch counts blocks that came from other nodes.
func (c *counters) fetch(batch []blocks.Block) {
	bytes := 0
	for _, b := range batch {
		bytes += len(b.RawData())
	}
	c.fetchedBlocks.Add(uint64(len(batch)))
	c.fetchedBytes.Add(uint64(bytes))
}

// removed counts a block that was garbage.
func (c *counters) removed(size int) {
	c.removedBlocks.Add(1)
	c.freedBytes.Add(uint64(max(size, 0)))
}

// collected counts a collection of garbage.
func (c *counters) collected(took time.Duration, err error) {
	c.collections.Add(1)
	if err != nil {
		c.collectionsFailed.Add(1)
	}
	c.collectionTime.Add(uint64(took))
}

// Stats returns a picture of now, without disk access. What the repository is
// asked for is zero while it is not open.
func (n *Node) Stats() Stats {
	c := &n.counters
	out := Stats{FetchedCount: c.fetchedBlocks.Load(), FetchedBytes: c.fetchedBytes.Load(),
		Collections: c.collections.Load(), CollectionsFailed: c.collectionsFailed.Load(),
		CollectionTime: time.Duration(c.collectionTime.Load()), CollectedBlocks: c.removedBlocks.Load(), CollectedBytes: c.freedBytes.Load()}
	n.mu.Lock()
	o := n.open
	n.mu.Unlock()
	if o == nil {
		return out
	}
	out.Connected = len(o.core.PeerHost.Network().Peers())
	out.Verified, out.DamageFound, out.Damaged = o.damage.verified.Load(), o.damage.found.Load(), int(o.damage.count.Load())
	return out
}
