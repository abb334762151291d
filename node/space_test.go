package node

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// TestFullDisk has a reserve larger than the disk: nothing can be written by
// any way, and all else works.
func TestFullDisk(t *testing.T) {
	ctx := testContext(t)
	c := testConfig(t)
	n, stop := startStoppable(t, c)
	kept := rawBlock(t, []byte("from better days"))
	if err := n.PutBlocks(ctx, []blocks.Block{kept}); err != nil {
		t.Fatal(err)
	}
	stop()
	c.Reserve = 1 << 60
	n = start(t, c)
	if free, err := n.Free(ctx); err != nil || free != 0 {
		t.Errorf("%d bytes are free: %v", free, err)
	}
	blk := rawBlock(t, []byte("too much"))
	for name, err := range map[string]error{
		"put":      n.PutBlocks(ctx, []blocks.Block{blk}),
		"put many": n.PutBlocks(ctx, []blocks.Block{blk, rawBlock(t, []byte("more"))}),
	} {
		if api.CodeOf(err) != api.CodeNoSpace {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/api/v0/block/put", strings.NewReader(
		"--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\ndata\r\n--x--\r\n"))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	w := httptest.NewRecorder()
	n.RPC().ServeHTTP(w, r)
	if w.Code == http.StatusOK || !strings.Contains(w.Body.String(), "no space") {
		t.Errorf("block put by RPC: %d %s", w.Code, w.Body)
	}
	// What is there can be pinned, unpinned and collected.
	if err := n.Pin(ctx, []api.Pin{dataPin(kept.Cid())}); err != nil {
		t.Error(err)
	}
	if err := n.Unpin(ctx, []cid.Cid{kept.Cid()}); err != nil {
		t.Error(err)
	}
	if err := n.GC(ctx, nil); err != nil {
		t.Error(err)
	}
	if complete, _, err := n.Complete(ctx, dataPin(kept.Cid())); err != nil || complete {
		t.Errorf("complete after collection: %v", err)
	}
}

// TestCollectionFreesSpace looks at the size of the repository, for which the
// store has to let go of files, not only of keys.
// TestStats looks at what a node counts: blocks that come from another, reads,
// and collections.
func TestStats(t *testing.T) {
	ctx := testContext(t)
	from, to := start(t, testConfig(t)), start(t, testConfig(t))
	from.Peer([]peer.AddrInfo{info(to)})
	to.Peer([]peer.AddrInfo{info(from)})
	data := random(t, 100<<10)
	pin := dataPin(add(t, from, data, "pin=false&chunker=size-8192"))
	if before := to.Stats(); before.FetchedCount != 0 || before.FetchedBytes != 0 || before.Collections != 0 {
		t.Fatalf("a new node says %+v", before)
	}
	if err := to.Fetch(ctx, pin, []peer.AddrInfo{info(from)}, nil); err != nil {
		t.Fatal(err)
	}
	if got := to.Stats(); got.FetchedCount != 14 || got.FetchedBytes < 100<<10 || got.Connected != 1 {
		t.Errorf("after a fetch of 13 leaves and their root it says %+v", got)
	}
	before := from.Stats()
	if before.Verified == 0 || before.Damaged != 0 || before.DamageFound != 0 {
		t.Errorf("who sent them says %+v", before)
	}
	if err := from.GC(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if got := from.Stats(); got.Collections != 1 || got.CollectionsFailed != 0 || got.CollectionTime <= 0 || got.CollectedBlocks < 14 || got.CollectedBytes < 100<<10 {
		t.Errorf("after a collection it says %+v", got)
	}
}

func TestCollectionFreesSpace(t *testing.T) {
	ctx := testContext(t)
	n := start(t, testConfig(t))
	for range 8 {
		var bs []blocks.Block
		for range 32 {
			bs = append(bs, rawBlock(t, random(t, 256<<10)))
		}
		if err := n.PutBlocks(ctx, bs); err != nil {
			t.Fatal(err)
		}
	}
	full, err := n.RepoSize(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.GC(ctx, nil); err != nil {
		t.Fatal(err)
	}
	var size uint64
	for range 100 { // files are removed in the background
		if size, err = n.RepoSize(ctx); err != nil {
			t.Fatal(err)
		}
		if size < full/2 {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Errorf("%d bytes before collection, %d after", full, size)
}

// TestNothing: the block of no bytes is everywhere, under whatever hash and codec,
// since no bitswap sends it.
func TestNothing(t *testing.T) {
	ctx := testContext(t)
	c := testConfig(t)
	c.StallTimeout, c.StallLimit = 200*time.Millisecond, 1
	n := start(t, c)
	for _, hash := range []uint64{multihash.SHA2_256, multihash.SHA2_512, multihash.BLAKE2B_MIN + 31} {
		for _, codec := range []uint64{cid.Raw, cid.DagProtobuf} {
			nothing, err := cid.V1Builder{Codec: codec, MhType: hash}.Sum(nil)
			if err != nil {
				t.Fatal(err)
			}
			top := protobufBlock(t, nothing)
			if err := n.PutBlocks(ctx, []blocks.Block{top}); err != nil {
				t.Fatal(err)
			}
			if err := n.Fetch(ctx, dataPin(top.Cid()), nil, nil); err != nil {
				t.Errorf("hash %x, codec %x: %v", hash, codec, err)
			}
			if complete, missing, err := n.Complete(ctx, dataPin(top.Cid())); err != nil || !complete {
				t.Errorf("hash %x, codec %x: %s is missing, %v", hash, codec, missing, err)
			}
			if code, body := rpc(t, n, "block/get?arg="+nothing.String()); code != http.StatusOK || body != "" {
				t.Errorf("hash %x, codec %x: %d %q", hash, codec, code, body)
			}
		}
	}
}

// TestWatermark: without a maximum of its own the repository may take what the
// disk has, and garbage goes when that is used up.
func TestWatermark(t *testing.T) {
	ctx := testContext(t)
	c := testConfig(t)
	n, stop := startStoppable(t, c)
	if over, err := n.overWatermark(ctx, 0); err != nil || over {
		t.Errorf("over the watermark: %v, %v", over, err)
	}
	stop()
	c.Reserve = 1 << 60 // nothing is left
	n = start(t, c)
	if over, err := n.overWatermark(ctx, 0); err != nil || !over {
		t.Errorf("over the watermark: %v, %v", over, err)
	}
	if over, err := n.overWatermark(ctx, 1<<40); err != nil || over {
		t.Errorf("over the watermark, and all is needed: %v, %v", over, err)
	}
}

// TestFullDiskIsMended: what replaces damaged blocks is written though there is
// no space for others, since nothing is collected as long as a pin has a hole.
func TestFullDiskIsMended(t *testing.T) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(t.TempDir(), &st); err != nil {
		t.Fatal(err)
	}
	have := st.Bavail * uint64(st.Bsize)
	for _, full := range []struct {
		name       string
		max, keeps uint64
	}{{"the maximum", 1, 0}, {"the disk", 0, have + have/10}} {
		for _, hole := range []struct {
			name  string
			spoil func(t *testing.T, dir string, root cid.Cid, data []byte)
		}{
			{"an inner block is damaged", func(t *testing.T, dir string, _ cid.Cid, data []byte) { damages[2].spoil(t, dir, data) }},
			{"an inner block is missing", func(t *testing.T, dir string, root cid.Cid, _ []byte) { drop(t, dir, root) }},
		} {
			t.Run(full.name+", "+hole.name, func(t *testing.T) {
				ctx := testContext(t)
				c := testConfig(t)
				data, pin, leaf := stored(t, c)
				other := start(t, testConfig(t))
				add(t, other, data, "pin=false&chunker=size-8192")
				hole.spoil(t, c.Dir, pin.Cid.Cid, data)
				c.StorageMax, c.Reserve = full.max, full.keeps
				n := start(t, c)
				if err := n.GC(ctx, nil); err == nil {
					t.Fatal("a collection does not notice")
				}
				if got := n.Damaged(); len(got) != 1 || string(got[0].Hash()) != string(pin.Cid.Hash()) {
					t.Fatalf("damaged are %v", got)
				}
				acquaint(n, other)
				if err := n.Fetch(ctx, pin, []peer.AddrInfo{info(other)}, nil); err != nil {
					t.Fatalf("the hole is not mended: %v", err)
				}
				if complete, missing, err := n.Complete(ctx, pin); err != nil || !complete || len(n.Damaged()) > 0 {
					t.Errorf("%s is missing still, %v", missing, err)
				}
				var removed []cid.Cid
				err := n.GC(ctx, func(k api.RepoGCKey) { removed = append(removed, k.Key.Cid) })
				if garbage := rawBlock(t, []byte("needed by nobody")).Cid(); err != nil || !slices.Contains(removed, garbage) {
					t.Errorf("collection removed %v and ended with %v", removed, err)
				}
				if err := n.PutBlocks(ctx, []blocks.Block{rawBlock(t, []byte("new"))}); api.CodeOf(err) != api.CodeNoSpace {
					t.Errorf("a new block: %v", err)
				}
				// Among new blocks, and one by one.
				for name, put := range map[string]func(blocks.Block) error{
					"batch": func(b blocks.Block) error {
						err := n.PutBlocks(ctx, []blocks.Block{rawBlock(t, []byte("new")), b})
						if api.CodeOf(err) != api.CodeNoSpace {
							t.Errorf("a new block beside one that mends: %v", err)
						}
						return nil
					},
					"put": func(b blocks.Block) error { return n.open.store.Put(ctx, blockKey(b.Cid()), b.RawData()) },
				} {
					_ = n.open.damage.add(ctx, blockKey(leaf), "it is said to be")
					if err := put(rawBlock(t, leafOf(data))); err != nil || len(n.Damaged()) > 0 {
						t.Errorf("%s: %v, damaged are %v", name, err, n.Damaged())
					}
				}
			})
		}
	}
}

// TestMendingKeepsTheReserve: a disk that is full to the last is not filled
// further by what replaces damaged blocks.
func TestMendingKeepsTheReserve(t *testing.T) {
	ctx := testContext(t)
	c := testConfig(t)
	c.Reserve = 1 << 60
	n := start(t, c)
	b := rawBlock(t, []byte("damaged"))
	_ = n.open.damage.add(ctx, blockKey(b.Cid()), "it is said to be")
	if err := n.PutBlocks(ctx, []blocks.Block{b}); api.CodeOf(err) != api.CodeNoSpace || !strings.Contains(err.Error(), "replace damaged") {
		t.Errorf("got %v", err)
	}
}

// drop takes a block out of a repository that nobody has open.
func drop(t *testing.T, dir string, c cid.Cid) {
	t.Helper()
	store, err := openPebble(filepath.Join(dir, "pebbleds"), 0, new(atomic.Bool))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.Delete(t.Context(), blockKey(c)), store.Sync(t.Context(), blockKey(c)), store.Close()); err != nil {
		t.Fatal(err)
	}
}
