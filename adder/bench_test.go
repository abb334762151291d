package adder

import (
	"bytes"
	"context"
	"mime/multipart"
	"strconv"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// null takes blocks and forgets them.
type null struct{}

func (null) Put(context.Context, []api.Block) error { return nil }
func (null) Close() error                           { return nil }

func nullAdder() *Adder {
	w := newWorld(2, first, second)
	return New(Deps{Self: self, Cluster: w, Open: func(context.Context, peer.ID) (Destination, error) { return null{}, nil },
		Lease: func(context.Context) (func(), error) { return func() {}, nil }}, Config{})
}

// BenchmarkAdd adds one file to two destinations in memory.
func BenchmarkAdd(b *testing.B) {
	data := noise(1, 256<<20)
	for name, change := range map[string]func(*api.AddParams){
		"dag-pb":     func(*api.AddParams) {},
		"raw-leaves": func(p *api.AddParams) { p.CidVersion, p.RawLeaves = 1, true },
		"1MiB":       func(p *api.AddParams) { p.CidVersion, p.RawLeaves, p.Chunker = 1, true, "size-1048576" },
	} {
		b.Run(name, func(b *testing.B) {
			a := nullAdder()
			params := api.NewAddParams()
			change(&params)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				body, boundary := stream(bytes.NewReader(data))
				if err := a.Add(b.Context(), multipart.NewReader(body, boundary), params, func(api.AddedOutput) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkAddFiles adds a folder of 10,000 files of 4 KiB.
func BenchmarkAddFiles(b *testing.B) {
	const count = 10_000
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	data := noise(1, count*4096)
	for i := range count {
		part, err := w.CreateFormFile("file", "d/"+strconv.Itoa(i))
		if err == nil {
			_, err = part.Write(data[i*4096 : (i+1)*4096])
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	a := nullAdder()
	b.ReportAllocs()
	for b.Loop() {
		if err := a.Add(b.Context(), multipart.NewReader(bytes.NewReader(body.Bytes()), w.Boundary()), api.NewAddParams(), func(api.AddedOutput) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
