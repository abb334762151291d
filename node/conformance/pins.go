package conformance

import (
	"context"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"holdfast/api"
)

func pinsSurvive(e *env) {
	store := e.newStore(e.T)
	a := e.startOn(store, Options{})
	root, all := tree("kept", 5)
	one := raw("one block")
	e.ok(a.PutBlocks(e.Context(), append(all, one)))
	e.ok(a.Sync(e.Context()))
	e.ok(a.Pin(e.Context(), []api.Pin{recursive(root), direct(one.Cid())}))
	id := a.ID()
	a.stop()
	a = e.startOn(store, Options{})
	if a.ID() != id {
		e.Errorf("identity changed from %s to %s", id, a.ID())
	}
	e.pinned(a, root, true)
	e.pinned(a, one.Cid(), true)
	e.complete(a, recursive(root), true)
	e.ok(a.Unpin(e.Context(), []cid.Cid{root}))
	a.stop()
	a = e.startOn(store, Options{})
	e.pinned(a, root, false)
	e.pinned(a, one.Cid(), true)
	e.collect(a)
	e.complete(a, direct(one.Cid()), true)
	e.complete(a, recursive(root), false)
}

func pinIdempotent(e *env) {
	a := e.start(Options{})
	b := raw("again")
	e.ok(a.PutBlocks(e.Context(), []blocks.Block{b}))
	e.ok(a.Unpin(e.Context(), []cid.Cid{b.Cid()})) // not pinned: no error
	for range 2 {
		e.ok(a.Pin(e.Context(), []api.Pin{recursive(b.Cid()), recursive(b.Cid())}))
		e.pinned(a, b.Cid(), true)
	}
	for range 2 {
		e.ok(a.Unpin(e.Context(), []cid.Cid{b.Cid(), b.Cid()}))
		e.pinned(a, b.Cid(), false)
	}
	e.ok(a.Pin(e.Context(), nil))
	e.ok(a.Unpin(e.Context(), nil))
}

func pinChangesMode(e *env) {
	a := e.start(Options{})
	root, all := tree("modes", 2)
	e.ok(a.PutBlocks(e.Context(), all))
	e.ok(a.Pin(e.Context(), []api.Pin{direct(root)}))
	e.ok(a.Pin(e.Context(), []api.Pin{recursive(root)}))
	e.pinned(a, root, true)
	if removed := e.collect(a); removed != 0 {
		e.Fatalf("collection removed %d blocks of a recursive pin", removed)
	}
	e.ok(a.Pin(e.Context(), []api.Pin{direct(root)}))
	e.pinned(a, root, true)
	if removed := e.collect(a); removed != len(all)-1 {
		e.Fatalf("collection removed %d blocks; all but the root are %d", removed, len(all)-1)
	}
	e.complete(a, direct(root), true)
}

func userPins(e *env) {
	for _, user := range []api.PinMode{api.ModeRecursive, api.ModeDirect} {
		for _, ours := range []func(cid.Cid) api.Pin{recursive, direct} {
			a := e.start(Options{})
			root, all := tree("shared", 2)
			e.ok(a.PutBlocks(e.Context(), all))
			a.store.PinByUser(e.T, a.Node, root, user)
			e.pinned(a, root, false) // it is not ours
			e.ok(a.Pin(e.Context(), []api.Pin{ours(root)}))
			e.pinned(a, root, true)
			e.collect(a)
			e.complete(a, ours(root), true)
			e.ok(a.Unpin(e.Context(), []cid.Cid{root}))
			e.pinned(a, root, false)
			if got := a.store.PinnedByUser(e.T, a.Node, root); got != user {
				e.Errorf("the user's %s pin is %q after ours (%s) came and went", user, got, ours(root).Mode)
			}
			e.collect(a)
			e.complete(a, api.Pin{Cid: api.NewCid(root), PinOptions: api.PinOptions{Mode: user}}, true)
			a.stop()
		}
	}
	// The user removes a pin that ours rested on: collection keeps ours.
	a := e.start(Options{})
	root, all := tree("rests", 2)
	e.ok(a.PutBlocks(e.Context(), all))
	a.store.PinByUser(e.T, a.Node, root, api.ModeRecursive)
	e.ok(a.Pin(e.Context(), []api.Pin{recursive(root)}))
	a.store.PinByUser(e.T, a.Node, root, "")
	e.collect(a)
	e.complete(a, recursive(root), true)
	// Unpinning what only the user pinned touches nothing.
	mine := raw("the user's")
	e.ok(a.PutBlocks(e.Context(), []blocks.Block{mine}))
	a.store.PinByUser(e.T, a.Node, mine.Cid(), api.ModeRecursive)
	e.ok(a.Unpin(e.Context(), []cid.Cid{mine.Cid()}))
	if got := a.store.PinnedByUser(e.T, a.Node, mine.Cid()); got != api.ModeRecursive {
		e.Errorf("the user's pin is %q after an unpin of ours", got)
	}
}

func gcRemoves(e *env) {
	a := e.start(Options{})
	kept, all := tree("kept", 4)
	_, garbage := tree("garbage", 4)
	e.ok(a.PutBlocks(e.Context(), append(all, garbage...)))
	e.ok(a.Pin(e.Context(), []api.Pin{recursive(kept)}))
	before, err := a.RepoStat(e.Context())
	e.ok(err)
	if removed := e.collect(a); removed != len(garbage) {
		e.Errorf("collection removed %d blocks of %d", removed, len(garbage))
	}
	after, err := a.RepoStat(e.Context())
	e.ok(err)
	if before.NumObjects-after.NumObjects != uint64(len(garbage)) {
		e.Errorf("%d objects before, %d after", before.NumObjects, after.NumObjects)
	}
	e.complete(a, recursive(kept), true)
	for _, b := range garbage {
		e.complete(a, direct(b.Cid()), false)
	}
	e.ok(a.Unpin(e.Context(), []cid.Cid{kept}))
	if removed := e.collect(a); removed != len(all) {
		e.Errorf("collection removed %d blocks of %d", removed, len(all))
	}
	e.ok(a.GC(e.Context(), nil))
}

func gcKeepsFetch(e *env) {
	a, b := e.start(Options{}), e.start(Options{StallTimeout: time.Hour})
	e.connect(a, b)
	root, all := tree("in progress", 6)
	last := len(all) - 1
	e.ok(a.PutBlocks(e.Context(), all[:last]))
	partly, fetched := make(chan struct{}), make(chan error, 1)
	go func() {
		told := false
		fetched <- b.Fetch(e.Context(), recursive(root), a.holder(), func(blocks, _ uint64) {
			if blocks == uint64(last) && !told {
				told = true
				close(partly)
			}
		})
	}()
	<-partly
	if removed := e.collect(b); removed != 0 { // and it does not wait for the fetch
		e.Errorf("collection removed %d blocks of a fetch", removed)
	}
	e.ok(a.PutBlocks(e.Context(), all[last:]))
	e.ok(<-fetched)
	e.complete(b, recursive(root), true)
}

func gcKeepsFetched(e *env) {
	a, b := e.start(Options{}), e.start(Options{})
	e.connect(a, b)
	root, all := tree("fetched", 3)
	e.ok(a.PutBlocks(e.Context(), all))
	e.ok(b.Fetch(e.Context(), recursive(root), a.holder(), nil))
	if removed := e.collect(b); removed != 0 {
		e.Errorf("collection removed %d blocks between fetch and pin", removed)
	}
	e.ok(b.Pin(e.Context(), []api.Pin{recursive(root)}))
	e.complete(b, recursive(root), true)
	e.ok(b.Unpin(e.Context(), []cid.Cid{root}))
	if removed := e.collect(b); removed != len(all) {
		e.Errorf("collection removed %d blocks of %d", removed, len(all))
	}
}

func gcWaits(e *env) {
	a := e.start(Options{})
	release, err := a.Lease(e.Context())
	e.ok(err)
	root, all := tree("added", 3)
	e.ok(a.PutBlocks(e.Context(), all[:5]))
	collected := make(chan error, 1)
	go func() { collected <- a.GC(e.Context(), nil) }()
	e.ok(a.PutBlocks(e.Context(), all[5:])) // an add goes on while a collection waits
	select {
	case err := <-collected:
		e.Fatalf("collection did not wait for the lease: %v", err)
	default:
	}
	e.ok(a.Pin(e.Context(), []api.Pin{recursive(root)}))
	release()
	release() // harmless
	e.ok(<-collected)
	e.complete(a, recursive(root), true)
	// One that is not to wait for ever ends with its context.
	release, err = a.Lease(e.Context())
	e.ok(err)
	defer release()
	ctx, cancel := context.WithTimeout(e.Context(), 100*time.Millisecond)
	defer cancel()
	if err := a.GC(ctx, nil); err == nil {
		e.Fatal("collection ran during a lease")
	}
	e.ok(a.PutBlocks(e.Context(), all)) // and holds nobody up afterwards
	second, err := a.Lease(e.Context())
	e.ok(err)
	second()
}

func gcKeepsWanted(e *env) {
	root, all := tree("wanted", 3)
	one := raw("one that is wanted")
	a := e.start(Options{Wanted: func(keep func(api.Pin) bool) error {
		_ = keep(recursive(root)) && keep(direct(one.Cid()))
		return nil
	}})
	e.ok(a.PutBlocks(e.Context(), append(all[:len(all)-1:len(all)-1], one, raw("unwanted"))))
	if removed := e.collect(a); removed != 1 {
		e.Errorf("collection removed %d blocks", removed)
	}
}

func resolve(e *env) {
	a := e.start(Options{})
	c := raw("resolved").Cid()
	for _, path := range []string{c.String(), "/ipfs/" + c.String()} {
		got, err := a.Resolve(e.Context(), path)
		e.ok(err)
		if got != c {
			e.Errorf("%s resolves to %s", path, got)
		}
	}
	for _, path := range []string{"", "/", "/ipfs/", "/ipfs/nonsense", "nonsense", "/nonsense/" + c.String()} {
		_, err := a.Resolve(e.Context(), path)
		e.code(err, api.CodeInvalid)
	}
}

func badCids(e *env) {
	a := e.start(Options{})
	undefined := recursive(cid.Undef)
	e.code(a.Fetch(e.Context(), undefined, nil, nil), api.CodeInvalid)
	e.code(a.Pin(e.Context(), []api.Pin{undefined}), api.CodeInvalid)
	e.code(a.Unpin(e.Context(), []cid.Cid{cid.Undef}), api.CodeInvalid)
	_, err := a.Pinned(e.Context(), cid.Undef)
	e.code(err, api.CodeInvalid)
	_, _, err = a.Complete(e.Context(), undefined)
	e.code(err, api.CodeInvalid)
}
