package conformance

import (
	"context"
	"fmt"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"golang.org/x/sync/errgroup"

	"holdfast/api"
)

func notOpen(e *env) {
	n := e.newStore(e.T).New(e.T, Options{StallTimeout: time.Second})
	pin := recursive(raw("x").Cid())
	e.code(n.Fetch(e.Context(), pin, nil, nil), api.CodeUnavailable)
	e.code(n.Pin(e.Context(), []api.Pin{pin}), api.CodeUnavailable)
	e.code(n.GC(e.Context(), nil), api.CodeUnavailable)
	e.code(n.Sync(e.Context()), api.CodeUnavailable)
	_, err := n.Free(e.Context())
	e.code(err, api.CodeUnavailable)
	ended := e.start(Options{})
	ended.stop()
	e.code(ended.Fetch(e.Context(), pin, nil, nil), api.CodeUnavailable)
	_, err = ended.Pinned(e.Context(), pin.Cid.Cid)
	e.code(err, api.CodeUnavailable)
}

func fetchTree(e *env) {
	a, b := e.start(Options{}), e.start(Options{})
	e.connect(a, b)
	root, all := tree("tree", 30)
	size := 0
	for _, blk := range all {
		size += len(blk.RawData())
	}
	e.ok(a.PutBlocks(e.Context(), all))
	e.complete(b, recursive(root), false)
	var blocks, bytes uint64
	e.ok(b.Fetch(e.Context(), recursive(root), a.holder(), func(bl, by uint64) {
		if bl < blocks || by < bytes {
			e.Errorf("progress went back from %d to %d blocks", blocks, bl)
		}
		blocks, bytes = bl, by
	}))
	if blocks != uint64(len(all)) || bytes != uint64(size) {
		e.Errorf("progress told of %d blocks, %d bytes; the tree has %d, %d", blocks, bytes, len(all), size)
	}
	a.stop() // b has it all by itself
	e.complete(b, recursive(root), true)
	for _, blk := range all {
		e.complete(b, direct(blk.Cid()), true)
	}
}

func fetchLocal(e *env) {
	a := e.start(Options{})
	root, all := tree("local", 20)
	e.ok(a.PutBlocks(e.Context(), all))
	var blocks uint64
	e.ok(a.Fetch(e.Context(), recursive(root), nil, func(b, _ uint64) { blocks = b }))
	if blocks != uint64(len(all)) {
		e.Errorf("progress told of %d blocks of %d", blocks, len(all))
	}
}

func fetchDirect(e *env) {
	a, b := e.start(Options{}), e.start(Options{})
	e.connect(a, b)
	root, all := tree("direct", 3)
	e.ok(a.PutBlocks(e.Context(), all))
	e.ok(b.Fetch(e.Context(), direct(root), a.holder(), nil))
	e.complete(b, direct(root), true)
	e.complete(b, recursive(root), false)
	e.complete(b, direct(all[1].Cid()), false)
	e.ok(b.Pin(e.Context(), []api.Pin{direct(root)}))
	e.pinned(b, root, true)
}

func fetchIdentity(e *env) {
	a := e.start(Options{})
	c, err := cid.V1Builder{Codec: cid.Raw, MhType: multihash.IDENTITY}.Sum([]byte("in the CID itself"))
	e.ok(err)
	e.ok(a.Fetch(e.Context(), recursive(c), nil, nil))
	e.complete(a, recursive(c), true)
	e.ok(a.Pin(e.Context(), []api.Pin{recursive(c)}))
	e.pinned(a, c, true)
}

func fetchMany(e *env) {
	a, b := e.start(Options{}), e.start(Options{})
	e.connect(a, b)
	var all []blocks.Block
	for i := range 600 {
		all = append(all, raw("small %d", i))
	}
	e.ok(a.PutBlocks(e.Context(), all))
	group, ctx := errgroup.WithContext(e.Context())
	group.SetLimit(64)
	for _, blk := range all {
		group.Go(func() error { return b.Fetch(ctx, recursive(blk.Cid()), a.holder(), nil) })
	}
	e.ok(group.Wait())
	var pins []api.Pin
	for _, blk := range all {
		e.complete(b, recursive(blk.Cid()), true)
		pins = append(pins, recursive(blk.Cid()))
	}
	e.ok(b.Pin(e.Context(), pins))
	for _, p := range pins {
		e.pinned(b, p.Cid.Cid, true)
	}
}

func fetchResumes(e *env) {
	a, b := e.start(Options{}), e.start(Options{})
	e.connect(a, b)
	root, all := tree("resumed", 10)
	e.ok(a.PutBlocks(e.Context(), all))
	var half []blocks.Block
	for i, blk := range all {
		if i%2 == 0 {
			half = append(half, blk)
		}
	}
	e.ok(b.PutBlocks(e.Context(), half))
	e.ok(b.Fetch(e.Context(), recursive(root), a.holder(), nil))
	e.complete(b, recursive(root), true)
}

func fetchNobody(e *env) {
	a, b := e.start(Options{}), e.start(Options{StallTimeout: 200 * time.Millisecond, StallLimit: 2})
	e.connect(a, b)
	e.code(b.Fetch(e.Context(), recursive(raw("nowhere").Cid()), a.holder(), nil), api.CodeUnavailable)
	// A tree of which one leaf is lost.
	root, all := tree("incomplete", 5)
	e.ok(a.PutBlocks(e.Context(), all[:len(all)-1]))
	e.code(b.Fetch(e.Context(), recursive(root), a.holder(), nil), api.CodeUnavailable)
	_, missing, err := b.Complete(e.Context(), recursive(root))
	e.ok(err)
	if want := all[len(all)-1].Cid(); missing != want {
		e.Errorf("missing is %s; want %s", missing, want)
	}
}

func fetchAppears(e *env) {
	a, b := e.start(Options{}), e.start(Options{StallTimeout: 300 * time.Millisecond, StallLimit: 200})
	e.connect(a, b)
	root, all := tree("late", 4)
	last := len(all) - 1
	e.ok(a.PutBlocks(e.Context(), all[:last]))
	put := make(chan error, 1)
	var once bool
	e.ok(b.Fetch(e.Context(), recursive(root), a.holder(), func(blocks, _ uint64) {
		if blocks == uint64(last) && !once {
			once = true
			go func() {
				wait := time.NewTimer(time.Second) // longer than a session lives
				<-wait.C
				put <- a.PutBlocks(e.Context(), all[last:])
			}()
		}
	}))
	e.ok(<-put)
	e.complete(b, recursive(root), true)
}

func fetchCancelled(e *env) {
	a, b := e.start(Options{}), e.start(Options{})
	e.connect(a, b)
	ctx, cancel := context.WithTimeout(e.Context(), 200*time.Millisecond)
	defer cancel()
	if err := b.Fetch(ctx, recursive(raw("never").Cid()), a.holder(), nil); err == nil {
		e.Fatal("a fetch of nothing succeeded")
	}
	if ctx.Err() == nil {
		e.Fatal("the fetch ended before its context")
	}
	// A node that closes ends its fetches.
	ended := make(chan error, 1)
	go func() { ended <- b.Fetch(e.Context(), recursive(raw("never").Cid()), a.holder(), nil) }()
	b.stop()
	e.code(<-ended, api.CodeUnavailable)
}

func fetchUndecodable(e *env) {
	a, b := e.start(Options{}), e.start(Options{})
	e.connect(a, b)
	const ethBlock = 0x90
	odd := block(ethBlock, []byte("odd"))
	e.ok(a.PutBlocks(e.Context(), []blocks.Block{odd}))
	e.code(b.Fetch(e.Context(), recursive(odd.Cid()), a.holder(), nil), api.CodeInvalid)
	parent := inner("links to it", odd.Cid())
	e.ok(a.PutBlocks(e.Context(), []blocks.Block{parent}))
	e.code(b.Fetch(e.Context(), recursive(parent.Cid()), a.holder(), nil), api.CodeInvalid)
	broken := block(cid.DagProtobuf, []byte("this is no protobuf"))
	e.ok(a.PutBlocks(e.Context(), []blocks.Block{broken}))
	e.code(b.Fetch(e.Context(), recursive(broken.Cid()), a.holder(), nil), api.CodeInvalid)
	// As single blocks they are fine.
	for _, blk := range []blocks.Block{odd, broken} {
		e.ok(b.Fetch(e.Context(), direct(blk.Cid()), a.holder(), nil))
		e.ok(b.Pin(e.Context(), []api.Pin{direct(blk.Cid())}))
	}
	if removed := e.collect(b); removed != 1 { // parent
		e.Errorf("collection removed %d blocks", removed)
	}
	e.complete(b, direct(odd.Cid()), true)
}

func fetchFull(e *env) {
	const capacity = 8 << 20
	a, b := e.start(Options{}), e.start(Options{StorageMax: capacity})
	e.connect(a, b)
	big := make([]blocks.Block, 0, 40)
	var cids []cid.Cid
	for i := range 40 {
		blk := block(cid.Raw, fmt.Appendf(make([]byte, 512<<10), "%d", i))
		big, cids = append(big, blk), append(cids, blk.Cid())
	}
	root := inner("big", cids...)
	e.ok(a.PutBlocks(e.Context(), append(big, root)))
	e.code(b.Fetch(e.Context(), recursive(root.Cid()), a.holder(), nil), api.CodeNoSpace)
	e.code(b.PutBlocks(e.Context(), big), api.CodeNoSpace)
	free, err := b.Free(e.Context())
	e.ok(err)
	if free > capacity {
		e.Errorf("%d bytes are free of %d", free, capacity)
	}
	// Unpinning and collecting work nevertheless.
	e.ok(b.Unpin(e.Context(), []cid.Cid{root.Cid()}))
	e.collect(b)
}

func fetchDeep(e *env) {
	a, b := e.start(Options{}), e.start(Options{})
	e.connect(a, b)
	root, all := chain("deep", 100)
	e.ok(a.PutBlocks(e.Context(), all))
	e.ok(b.Fetch(e.Context(), recursive(root), a.holder(), nil))
	e.complete(b, recursive(root), true)
}
