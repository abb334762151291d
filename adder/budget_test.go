package adder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"strings"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
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
