package conformance

import (
	"context"
	"errors"
	"slices"

	"github.com/ipfs/go-cid"

	"holdfast/api"
)

func check(e *env) {
	a := e.start(Options{})
	root, all := tree("checked", 12)
	pin, absent := recursive(root), raw("absent")
	missing := func(want cid.Cid) {
		e.Helper()
		if got, err := a.Check(e.Context(), pin, nil); err != nil || got != want {
			e.Fatalf("missing is %v, %v; want %v", got, err, want)
		}
	}
	kept := func(want ...bool) {
		e.Helper()
		got, err := a.Kept(e.Context(), []cid.Cid{absent.Cid(), root})
		if err != nil || !slices.Equal(got, want) {
			e.Fatalf("kept are %v, %v; want %v", got, err, want)
		}
	}
	missing(root)
	kept(false, false)
	e.ok(a.PutBlocks(e.Context(), all[:len(all)-1]))
	missing(all[len(all)-1].Cid())
	e.ok(a.PutBlocks(e.Context(), all))
	missing(cid.Undef)
	e.ok(a.Pin(e.Context(), []api.Pin{pin}))
	kept(false, true)

	steps, looked, read, size := 0, 0, uint64(0), uint64(0)
	for _, b := range all {
		size += uint64(len(b.RawData()))
	}
	_, err := a.Check(e.Context(), pin, func(_ context.Context, blocks int, bytes uint64) error {
		steps, looked, read = steps+1, looked+blocks, read+bytes
		return nil
	})
	if err != nil || steps < 2 || looked < len(all) || looked > len(all)+1 {
		e.Errorf("%d blocks looked at in %d steps, %v; there are %d", looked, steps, err, len(all))
	}
	if read != size {
		e.Errorf("%d bytes were read; there are %d", read, size)
	}
	enough := errors.New("enough")
	if _, err := a.Check(e.Context(), pin, func(context.Context, int, uint64) error { return enough }); !errors.Is(err, enough) {
		e.Errorf("a walk that was ended returns %v", err)
	}
	ended := make(chan error, 1)
	waits := make(chan struct{})
	go func() {
		_, err := a.Check(e.Context(), pin, func(ctx context.Context, _ int, _ uint64) error {
			close(waits)
			<-ctx.Done()
			return ctx.Err()
		})
		ended <- err
	}()
	<-waits
	a.stop() // a walk that waits does not keep the node from closing
	e.code(<-ended, api.CodeUnavailable)
	if _, err := a.Kept(e.Context(), []cid.Cid{root}); api.CodeOf(err) != api.CodeUnavailable {
		e.Errorf("a closed node answers %v", err)
	}
}
