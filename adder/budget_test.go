package adder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"strings"
	"sync"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

var small = Config{BatchBytes: 1 << 10, QueueBatches: 1, MaxMemory: 1 << 20}

// manyBlocks is a CAR of n blocks that link to nothing.
func manyBlocks(t *testing.T, n int) []byte {
	var all []blocks.Block
	for i := range n {
		all = append(all, block(t, cid.Raw, multihash.SHA2_256, fmt.Append(nil, i)))
	}
	return carOf([]cid.Cid{all[0].Cid()}, all...)
}

// Every kind of thing that an add remembers is counted, an upload that is too
// much for the peer is refused as too large, and its memory is free then.
func TestMemoryOfAnUpload(t *testing.T) {
	files := func(n int, name string) []part {
		var list []part
		for i := range n {
			list = append(list, part{fmt.Sprintf(name, i), strings.NewReader("x")})
		}
		return list
	}
	array := append([]byte{0x9a, 0, 1, 0, 0}, bytes.Repeat([]byte{0xf6}, 1<<16)...) // of 65,536 nulls
	wide := block(t, cid.DagCBOR, multihash.SHA2_256, array)
	for name, c := range map[string]struct {
		format string
		list   []part
	}{
		"blocks of a CAR":            {"car", []part{{"x", bytes.NewReader(manyBlocks(t, 10_000))}}},
		"a block when it is decoded": {"car", []part{{"x", bytes.NewReader(carOf([]cid.Cid{wide.Cid()}, wide))}}},
		"entries of a folder":        {"", files(4_000, "folder/%d")},
		"folders":                    {"", files(4_000, "folder/%d/f")},
		"files at the top":           {"", files(4_000, "%d")},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(1, first)
			a := w.adder(small)
			params := api.NewAddParams()
			if c.format != "" {
				params.Format = c.format
			}
			err := a.Add(t.Context(), parts(t, c.list...), params, func(api.AddedOutput) error { return nil })
			if api.CodeOf(err) != api.CodeTooLarge || len(w.pins) != 0 {
				t.Errorf("%v, %d pins", err, len(w.pins))
			}
			if a.budget.used != 0 {
				t.Errorf("%d bytes are still taken", a.budget.used)
			}
		})
	}
}

// Uploads share the memory: who finds too little left is told to come again.
func TestMemoryOfAllUploads(t *testing.T) {
	w := newWorld(1, first)
	a := w.adder(small)
	params := api.NewAddParams()
	add := func(upload *multipart.Reader, emit func(api.AddedOutput) error) error {
		return a.Add(t.Context(), upload, params, emit)
	}
	folder := func() *multipart.Reader { return upload(t, manyFiles(1_050)) }
	r, out := io.Pipe()
	form := multipart.NewWriter(out)
	full, rest, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		seen := 0
		done <- add(multipart.NewReader(r, form.Boundary()), func(api.AddedOutput) error {
			if seen++; seen == 2_200 {
				close(full)
			}
			return nil
		})
	}()
	sent := make(chan error, 1)
	go func() {
		var problems error
		for i := range 2_202 {
			if i == 2_201 {
				<-rest
			}
			part, err := form.CreateFormFile("file", fmt.Sprintf("folder/%d", i))
			if err == nil {
				_, err = io.WriteString(part, "x")
			}
			problems = errors.Join(problems, err)
		}
		sent <- errors.Join(problems, form.Close(), out.Close())
	}()
	<-full
	ignore := func(api.AddedOutput) error { return nil }
	if err := add(folder(), ignore); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("beside a large one: %v", err)
	}
	close(rest)
	if err := errors.Join(<-done, <-sent); err != nil {
		t.Errorf("the large one: %v", err)
	}
	if err := add(folder(), ignore); err != nil || a.budget.used != 0 {
		t.Errorf("alone: %v, %d bytes taken", err, a.budget.used)
	}
}

// All of the memory is free again after adds that ended in every way, side by
// side.
func TestMemoryIsFreeAfterAdds(t *testing.T) {
	const adds, workers = 10_000, 16
	broke := errors.New("it broke")
	w := newWorld(1, first, second)
	w.fault = func(id peer.ID, put int) error {
		if id == second && put == 1 {
			return broke
		}
		return nil
	}
	failing := newWorld(2, first, second)
	failing.fault = w.fault
	unpinned := newWorld(1, first)
	unpinned.pinError = broke
	shared := w.adder(small).budget
	adders := []*Adder{w.adder(small), failing.adder(small), unpinned.adder(small)}
	for _, a := range adders {
		a.budget = shared
		shared.limit = workers * 256 << 10 // too little at times
	}
	car := manyBlocks(t, 20)
	var missing bytes.Buffer
	missing.Write(car[:len(car)-3])
	ends := make([]int, 3) // that succeeded, failed, were cancelled
	var mu sync.Mutex
	one := func(i int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		params, body := api.NewAddParams(), []part{{"folder/a", bytes.NewReader(noise(uint64(i), 3000))}, {"folder/b", strings.NewReader("b")}}
		emit := func(api.AddedOutput) error { return nil }
		switch i / 3 % 6 {
		case 0:
			params.Format, body = "car", []part{{"x", bytes.NewReader(car)}}
		case 1:
			params.Format, body = "car", []part{{"x", bytes.NewReader(missing.Bytes())}}
		case 2:
			emit = func(api.AddedOutput) error { return broke }
		case 3:
			emit = func(api.AddedOutput) error { cancel(); return nil }
		case 4:
			params.OnlyHash = true
		}
		err := adders[i%3].Add(ctx, parts(t, body...), params, emit)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			ends[0]++
		case ctx.Err() == nil:
			ends[1]++
		default:
			ends[2]++
		}
	}
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for i := worker; i < adds; i += workers {
				one(i)
			}
		})
	}
	group.Wait()
	if shared.used != 0 {
		t.Errorf("%d bytes are still taken", shared.used)
	}
	for i, n := range ends {
		if n < adds/20 {
			t.Errorf("ends of the kind %d: %d of %d", i, n, adds)
		}
	}
}

// What an upload does not need any more is for others before it ends.
func TestMemoryIsGivenBack(t *testing.T) {
	b := &budget{limit: 100 << 20}
	large, other := &share{budget: b}, &share{budget: b}
	for range 3 {
		if err := large.take(99 << 20); err != nil {
			t.Fatal(err)
		}
		if err := other.take(2 << 20); api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("beside a large one: %v", err)
		}
		large.give(99 << 20)
		if err := other.take(90 << 20); err != nil {
			t.Errorf("after a large one: %v", err)
		}
		other.give(90 << 20)
	}
	if b.used > 4*shareStep {
		t.Errorf("%d bytes are taken by two that use nothing", b.used)
	}
	large.close()
	other.close()
	if b.used != 0 {
		t.Errorf("%d bytes are still taken", b.used)
	}
}

// The budget leaves most of a limited memory to the rest of the process.
func TestDefaultMemory(t *testing.T) {
	for limit, want := range map[int64]int64{math.MaxInt64: 1 << 30, 8 << 30: 1 << 30, 2 << 30: 512 << 20, 256 << 20: 64 << 20} {
		if got := defaultMemory(limit); got != want {
			t.Errorf("of %d: %d, want %d", limit, got, want)
		}
	}
}
