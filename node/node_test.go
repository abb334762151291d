package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
	"golang.org/x/sync/errgroup"

	"holdfast/api"
	"holdfast/internal/kuborpc"
)

func testConfig(t testing.TB) Config {
	return Config{Dir: t.TempDir(), SwarmListen: []string{"/ip4/127.0.0.1/tcp/0"},
		StallTimeout: 5 * time.Second, LeaseLinger: time.Millisecond, GatewayFetch: true}
}

func testLogger() *slog.Logger {
	if os.Getenv("NODE_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// start runs a node until the test ends.
func start(t testing.TB, c Config) *Node {
	t.Helper()
	n, stop := startStoppable(t, c)
	t.Cleanup(stop)
	return n
}

func startStoppable(t testing.TB, c Config) (*Node, func()) {
	t.Helper()
	n, err := New(c, testLogger())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	select {
	case <-n.Ready():
	case err := <-ended:
		cancel()
		t.Fatalf("node did not open: %v", err)
	}
	return n, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

func info(n *Node) peer.AddrInfo {
	ai := peer.AddrInfo{ID: n.ID()}
	for _, a := range n.Addresses() {
		i, err := peer.AddrInfoFromP2pAddr(a)
		if err == nil {
			ai.Addrs = append(ai.Addrs, i.Addrs...)
		}
	}
	return ai
}

// acquaint makes nodes those of one cluster.
func acquaint(nodes ...*Node) {
	var infos []peer.AddrInfo
	for _, n := range nodes {
		infos = append(infos, info(n))
	}
	for _, n := range nodes {
		n.Peer(infos)
	}
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func rawBlock(t testing.TB, data []byte) blocks.Block {
	t.Helper()
	c, err := cid.V1Builder{Codec: cid.Raw, MhType: multihash.SHA2_256}.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func dataPin(c cid.Cid) api.Pin {
	return api.Pin{Cid: api.NewCid(c), PinOptions: api.PinOptions{Mode: api.ModeRecursive}}
}

// add adds a file through the RPC handler, without pinning it.
func add(t testing.TB, n *Node, data []byte, query string) cid.Cid {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "file")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = part.Write(data)
	form.Close()
	r := httptest.NewRequest(http.MethodPost, "/api/v0/add?cid-version=1&"+query, &body)
	r.Header.Set("Content-Type", form.FormDataContentType())
	w := httptest.NewRecorder()
	n.command(w, r, kuborpc.Call{Name: "add", Locks: true})
	if w.Code != http.StatusOK {
		t.Fatalf("add: %d %s", w.Code, w.Body)
	}
	var added struct{ Hash string }
	dec := json.NewDecoder(w.Body)
	for {
		if err := dec.Decode(&added); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	c, err := cid.Decode(added.Hash)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func rpc(t testing.TB, n *Node, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	n.RPC().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v0/"+path, nil))
	return w.Code, w.Body.String()
}

// kuboRPC asks Kubo itself, as its own command line does in a repository that is
// the cluster's from then on.
func kuboRPC(t testing.TB, n *Node, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	n.command(w, httptest.NewRequest(http.MethodPost, "/api/v0/"+path, nil), kuborpc.Call{Name: path, Locks: true})
	return w.Code, w.Body.String()
}

func random(t testing.TB, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestTwoNodes(t *testing.T) {
	ctx := testContext(t)
	a, b := start(t, testConfig(t)), start(t, testConfig(t))
	acquaint(a, b)
	data := random(t, 20<<20)
	root := add(t, a, data, "pin=false")
	pin := dataPin(root)

	var blockCount, byteCount uint64
	if err := b.Fetch(ctx, pin, []peer.AddrInfo{info(a)}, func(b, n uint64) { blockCount, byteCount = b, n }); err != nil {
		t.Fatal(err)
	}
	if blockCount < 81 || byteCount < 20<<20 {
		t.Errorf("progress tells %d blocks, %d bytes", blockCount, byteCount)
	}
	if complete, missing, err := b.Complete(ctx, pin); err != nil || !complete {
		t.Fatalf("not complete: %v %v", missing, err)
	}
	if err := b.Pin(ctx, []api.Pin{pin}); err != nil {
		t.Fatal(err)
	}
	if pinned, err := b.Pinned(ctx, root); err != nil || !pinned {
		t.Fatalf("not pinned: %v", err)
	}
	removed := func() (count int) {
		if err := b.GC(ctx, func(k api.RepoGCKey) { count++ }); err != nil {
			t.Fatal(err)
		}
		return count
	}
	if n := removed(); n != 0 {
		t.Errorf("collection removed %d blocks of a pin", n)
	}
	code, body := rpc(t, b, "cat?arg="+root.String())
	if code != http.StatusOK || body != string(data) {
		t.Errorf("cat: status %d, %d bytes", code, len(body))
	}
	if err := b.Unpin(ctx, []cid.Cid{root}); err != nil {
		t.Fatal(err)
	}
	if pinned, err := b.Pinned(ctx, root); err != nil || pinned {
		t.Fatalf("still pinned: %v", err)
	}
	if n := removed(); n < 81 {
		t.Errorf("collection removed %d blocks of %d", n, blockCount)
	}
	if complete, _, err := b.Complete(ctx, pin); err != nil || complete {
		t.Fatalf("complete after collection: %v", err)
	}
}

func TestSmallPins(t *testing.T) {
	ctx := testContext(t)
	a, b := start(t, testConfig(t)), start(t, testConfig(t))
	acquaint(a, b)
	const count, workers = 5_000, 256
	var bs []blocks.Block
	for i := range count {
		bs = append(bs, rawBlock(t, fmt.Appendf(nil, "block %d of a test %40d", i, i)))
	}
	if err := a.PutBlocks(ctx, bs); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	holders := []peer.AddrInfo{info(a)}
	fetchers, fetchCtx := errgroup.WithContext(ctx)
	fetchers.SetLimit(workers)
	fetched := make(chan api.Pin, count)
	pinned := make(chan error, 1)
	go func() { pinned <- pinAll(ctx, b, fetched) }()
	for _, blk := range bs {
		fetchers.Go(func() error {
			p := dataPin(blk.Cid())
			if err := b.Fetch(fetchCtx, p, holders, nil); err != nil {
				return err
			}
			fetched <- p
			return nil
		})
	}
	if err := fetchers.Wait(); err != nil {
		t.Fatal(err)
	}
	close(fetched)
	if err := <-pinned; err != nil {
		t.Fatal(err)
	}
	t.Logf("%.0f pins/s", count/time.Since(begin).Seconds())
}

// pinAll pins what is fetched, in batches of what waits.
func pinAll(ctx context.Context, n *Node, fetched <-chan api.Pin) error {
	for p := range fetched {
		batch := []api.Pin{p}
		for more := true; more && len(batch) < 1000; {
			select {
			case p, ok := <-fetched:
				if more = ok; ok {
					batch = append(batch, p)
				}
			default:
				more = false
			}
		}
		if err := n.Pin(ctx, batch); err != nil {
			return err
		}
	}
	return nil
}
