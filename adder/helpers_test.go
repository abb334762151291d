package adder

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"sync"
	"testing"

	"github.com/ipfs/boxo/files"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

const (
	self   = peer.ID("self")
	first  = peer.ID("first")
	second = peer.ID("second")
	third  = peer.ID("third")
)

// world is a cluster in memory: it allocates as told, keeps what destinations
// took and notes what was pinned.
type world struct {
	placement api.Placement
	pinError  error
	fault     func(id peer.ID, put int) error // before the put-th batch, from 0; -1: Close
	hold      func(ctx context.Context, id peer.ID) error
	allocate  error

	mu     sync.Mutex
	asked  []api.PinOptions
	stores map[peer.ID]map[cid.Cid][]byte
	blocks map[peer.ID]int
	open   map[peer.ID]int
	pins   []api.PinRequest
	leases int
}

func newWorld(minimum int, peers ...peer.ID) *world {
	return &world{placement: api.Placement{Peers: peers, Min: minimum}, stores: map[peer.ID]map[cid.Cid][]byte{},
		blocks: map[peer.ID]int{}, open: map[peer.ID]int{}}
}

func (w *world) adder(config Config) *Adder {
	return New(Deps{Self: self, Cluster: w, Open: w.openDestination, Lease: func(context.Context) (func(), error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.leases++
		return func() { w.mu.Lock(); defer w.mu.Unlock(); w.leases-- }, nil
	}}, config)
}

func (w *world) Allocate(_ context.Context, options api.PinOptions) (api.Placement, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, options)
	return w.placement, w.allocate
}

func (w *world) Pin(_ context.Context, request api.PinRequest) (api.PinResult, error) {
	if w.pinError != nil {
		return api.PinResult{}, w.pinError
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pins = append(w.pins, request)
	return api.PinResult{Pin: api.Pin{Cid: request.Cid, Allocations: request.Allocations}}, nil
}

func (w *world) openDestination(_ context.Context, id peer.ID) (Destination, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[id]++
	if w.stores[id] == nil {
		w.stores[id] = map[cid.Cid][]byte{}
	}
	return &store{world: w, id: id}, nil
}

type store struct {
	world *world
	id    peer.ID
	puts  int
}

func (s *store) Put(ctx context.Context, batch []api.Block) error {
	if s.world.hold != nil {
		if err := s.world.hold(ctx, s.id); err != nil {
			return err
		}
	}
	if s.world.fault != nil {
		if err := s.world.fault(s.id, s.puts); err != nil {
			return err
		}
	}
	s.puts++
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	for _, b := range batch {
		s.world.stores[s.id][b.Cid.Cid] = b.Data
		s.world.blocks[s.id]++
	}
	return nil
}

func (s *store) Close() error {
	s.world.mu.Lock()
	defer s.world.mu.Unlock()
	s.world.open[s.id]--
	if s.world.fault != nil {
		return s.world.fault(s.id, -1)
	}
	return nil
}

// added runs an add and returns its outputs.
func (w *world) added(ctx context.Context, config Config, upload *multipart.Reader, params api.AddParams) ([]api.AddedOutput, error) {
	var out []api.AddedOutput
	err := w.adder(config).Add(ctx, upload, params, func(o api.AddedOutput) error {
		out = append(out, o)
		return nil
	})
	return out, err
}

// upload is what Kubo's client sends for a tree.
func upload(t testing.TB, tree files.Directory) *multipart.Reader {
	t.Helper()
	r := files.NewMultiFileReader(tree, false, false)
	return multipart.NewReader(r, r.Boundary())
}

// part is one part of an upload made by hand.
type part struct {
	name string
	body io.Reader
}

func parts(t testing.TB, list ...part) *multipart.Reader {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for _, p := range list {
		to, err := w.CreateFormFile("file", p.name)
		if err == nil {
			_, err = io.Copy(to, p.body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return multipart.NewReader(&body, w.Boundary())
}

func file(data []byte) files.Node { return files.NewBytesFile(data) }

func dir(entries map[string]files.Node) files.Directory { return files.NewMapDirectory(entries) }

// noise is n bytes that do not repeat.
func noise(seed uint64, n int) []byte {
	out := make([]byte, n)
	x := seed*2862933555777941757 + 3037000493
	for i := range out {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		out[i] = byte(x)
	}
	return out
}

func manyFiles(n int) files.Directory {
	entries := map[string]files.Node{}
	for i := range n {
		entries[fmt.Sprintf("a-rather-long-file-name-number-%06d.txt", i)] = file(fmt.Appendf(nil, "file %d", i))
	}
	return dir(entries)
}
