package conformance

import (
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"holdfast/api"
)

func repoID(e *env) {
	id := func(n Node) string {
		id, err := n.RepoID(e.Context())
		e.ok(err)
		if id == "" {
			e.Fatal("the repository has no ID")
		}
		return id
	}
	a, b := e.start(Options{}), e.start(Options{})
	first := id(a)
	if id(b) == first {
		e.Error("two repositories have one ID")
	}
	e.collect(a) // takes nothing of it away
	a.stop()
	a = e.startOn(a.store, Options{})
	if again := id(a); again != first {
		e.Errorf("the repository was %s, and is %s after a restart", first, again)
	}
	a.stop()
	a.store.Wipe(e.T)
	if again := id(e.startOn(a.store, Options{})); again == first {
		e.Error("an emptied repository has its ID still")
	}
}

func damagedBlock(e *env) {
	a, b := e.start(Options{}), e.start(Options{})
	root, all := tree("damaged", 4)
	pin := recursive(root)
	for _, n := range []Node{a, b} {
		e.ok(n.PutBlocks(e.Context(), all))
		e.ok(n.Pin(e.Context(), []api.Pin{pin}))
	}
	leaf, top := all[2].Cid(), all[1].Cid() // one is below the other
	damage := func(c cid.Cid) {
		e.Helper()
		b.store.Damage(e.T, b.Node, c)
		select {
		case <-b.DamageFound():
		case <-e.Context().Done():
			e.Fatal("nothing tells of the damage")
		}
		if got := b.Damaged(); len(got) != 1 || got[0].Hash().String() != c.Hash().String() {
			e.Fatalf("damaged are %v; want %s", got, c)
		}
		e.complete(b, pin, false)
		e.complete(b, direct(c), false)
	}
	mended := func() {
		e.Helper()
		if got := b.Damaged(); len(got) != 0 {
			e.Fatalf("still damaged: %v", got)
		}
		e.complete(b, pin, true)
	}
	damage(leaf)
	b.stop()
	b = e.startOn(b.store, Options{})
	e.connect(a, b)
	select {
	case <-b.DamageFound():
	case <-e.Context().Done():
		e.Fatal("after a restart nothing tells of the damage")
	}
	e.complete(b, pin, false)
	e.ok(b.Fetch(e.Context(), pin, a.holder(), nil))
	mended()
	damage(top)
	e.ok(b.PutBlocks(e.Context(), []blocks.Block{all[1]}))
	mended()
	damage(leaf)
	e.ok(b.Unpin(e.Context(), []cid.Cid{root}))
	e.collect(b)
	if got := b.Damaged(); len(got) != 0 {
		e.Errorf("damaged are %v, which nothing needs any longer", got)
	}
}
