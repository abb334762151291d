package sim

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
	"holdfast/node/fake"
)

// blockBytes is the size of every piece of content.
const blockBytes = 1000

// block returns the content of a number: one raw block.
func block(number int) blocks.Block {
	text := fmt.Sprintf("content %d ", number)
	data := []byte(text + strings.Repeat(".", blockBytes-len(text)))
	sum := sha256.Sum256(data)
	digest, err := multihash.Encode(sum[:], multihash.SHA2_256)
	if err != nil {
		panic(err) // cannot happen: the length fits the code
	}
	b, err := blocks.NewBlockWithCid(data, cid.NewCidV1(cid.Raw, digest))
	if err != nil {
		panic(err) // cannot happen: the CID is that of the data
	}
	return b
}

// Cid returns the CID of a piece of content.
func Cid(number int) api.Cid { return api.NewCid(block(number).Cid()) }

// originContent is how many pieces the origin has from the beginning.
const originContent = 200

// startOrigin runs an IPFS node that all pins name as their origin.
func (c *Cluster) startOrigin() {
	c.t.Helper()
	id := c.identity(0, "origin").ID
	var err error
	c.Origin, err = fake.New(fake.Config{World: c.world, Disk: fake.NewDisk(id)})
	c.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	c.origin.cancel, c.origin.done = cancel, make(chan struct{})
	go func() {
		defer close(c.origin.done)
		_ = c.Origin.Run(ctx) // its disk is its own
	}()
	<-c.Origin.Ready()
	for number := range originContent {
		c.Publish(number)
	}
}

// Publish gives the origin a piece of content.
func (c *Cluster) Publish(number int) {
	c.t.Helper()
	c.must(c.Origin.PutBlocks(context.Background(), []blocks.Block{block(number)}))
}

// origins name the origin in a pin.
func (c *Cluster) origins() []multiaddr.Multiaddr {
	addrs, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: c.Origin.ID(), Addrs: []multiaddr.Multiaddr{multiaddr.StringCast("/memory/1")}})
	if err != nil {
		panic(err) // cannot happen: the ID is valid
	}
	return addrs
}
