package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	pebbleds "github.com/ipfs/go-ds-pebble"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// edit changes the first file of the repository of this kind that holds some
// bytes; at is where they are.
func edit(t *testing.T, dir, kind string, with []byte, change func(path string, data []byte, at int)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "pebbleds", "*."+kind))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if at := bytes.Index(data, with); at >= 0 {
			change(path, data, at)
			return
		}
	}
	t.Fatalf("no %s file of %d holds it", kind, len(files))
}

// flip changes one bit in the middle of those bytes.
func flip(t *testing.T, dir, kind string, with []byte) {
	t.Helper()
	edit(t, dir, kind, with, func(path string, data []byte, at int) {
		data[at+len(with)/2] ^= 4
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	})
}

// truncate ends the file right after those bytes.
func truncate(t *testing.T, dir, kind string, with []byte) {
	t.Helper()
	edit(t, dir, kind, with, func(path string, _ []byte, at int) {
		if err := os.Truncate(path, int64(at+len(with))); err != nil {
			t.Fatal(err)
		}
	})
}

// chunk is the size of a leaf: large enough to be kept apart, and small, as
// Pebble tries out which flipped bit would explain a wrong checksum.
const chunk = 8 << 10

// stored makes a repository with one pinned file, and a block that nothing
// needs; nothing runs on it.
func stored(t *testing.T, c Config) (data []byte, pin api.Pin, leaf cid.Cid) {
	t.Helper()
	n, stop := startStoppable(t, c)
	data = random(t, 174*chunk)
	pin = dataPin(add(t, n, data, "pin=false&chunker=size-8192"))
	if err := n.Pin(testContext(t), []api.Pin{pin}); err != nil {
		t.Fatal(err)
	}
	if err := n.PutBlocks(testContext(t), []blocks.Block{rawBlock(t, []byte("needed by nobody"))}); err != nil {
		t.Fatal(err)
	}
	stop()
	return data, pin, rawBlock(t, leafOf(data)).Cid()
}

// leafOf is the content of a leaf in the middle of a stored file.
func leafOf(data []byte) []byte { return data[3*chunk : 4*chunk] }

// damages are ways in which a stored file can be spoilt: a leaf, or what links to it.
var damages = []struct {
	name  string
	inner bool
	spoil func(t *testing.T, dir string, data []byte)
}{
	{"a flipped bit in a leaf", false, func(t *testing.T, dir string, data []byte) { flip(t, dir, "blob", leafOf(data)) }},
	{"a truncated file", true, func(t *testing.T, dir string, data []byte) { truncate(t, dir, "blob", leafOf(data)[:chunk/2]) }},
	{"a flipped bit in an inner block", true, func(t *testing.T, dir string, data []byte) {
		flip(t, dir, "blob", cidDigest(t, leafOf(data)))
	}},
}

func cidDigest(t *testing.T, data []byte) []byte {
	t.Helper()
	hash := rawBlock(t, data).Cid().Hash()
	return hash[2:]
}

// TestDamageIsAnError reads a spoilt file in every way that there is: none
// may end well, and none may take anything away. (INV-PINNED)
func TestDamageIsAnError(t *testing.T) {
	for _, damage := range damages {
		t.Run(damage.name, func(t *testing.T) {
			ctx := testContext(t)
			c := testConfig(t)
			data, pin, leaf := stored(t, c)
			damage.spoil(t, c.Dir, data)
			n := start(t, c)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, "/api/") {
					n.RPC().ServeHTTP(w, r)
					return
				}
				n.Gateway().ServeHTTP(w, r)
			}))
			defer server.Close()
			// The collection first: it is to find an inner block by itself.
			collect := func() {
				t.Helper()
				removed := 0
				err := n.GC(ctx, func(k api.RepoGCKey) { removed++ })
				if damage.inner != (err != nil) || damage.inner && removed > 0 {
					t.Errorf("collection removed %d blocks and ended with %v", removed, err)
				}
			}
			collect()
			root := pin.Cid.String()
			bad := leaf.String()
			if damage.inner {
				bad = root
			}
			for _, path := range []string{
				"POST /api/v0/block/get?arg=" + bad, "POST /api/v0/cat?arg=" + root, "POST /api/v0/get?arg=" + root,
				"POST /api/v0/dag/export?arg=" + root, "GET /ipfs/" + root, "GET /ipfs/" + bad + "?format=raw", "GET /ipfs/" + root + "?format=car",
			} {
				mustFail(t, server.URL, path)
			}
			if complete, _, err := n.Complete(ctx, pin); err != nil || complete {
				t.Errorf("complete is %v, %v", complete, err)
			}
			if len(n.Damaged()) == 0 {
				t.Error("no block is said to be damaged")
			}
			if found := n.Conditions(); len(found) == 0 || found[0].Name != api.AlertDamage || found[0].Message == "" {
				t.Errorf("conditions are %+v", found)
			}
			collect()
		})
	}
}

// mustFail makes a request that must not look as if it had succeeded.
func mustFail(t *testing.T, base, request string) {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusOK && resp.Trailer.Get("X-Stream-Error") == "" {
		t.Errorf("%s ended well, with %d bytes", request, len(got))
	}
}

// TestDamageIsMended has another node with the same file: whoever reads gets all
// of it, and the disk is whole again.
func TestDamageIsMended(t *testing.T) {
	for _, damage := range damages {
		t.Run(damage.name, func(t *testing.T) {
			ctx := testContext(t)
			c := testConfig(t)
			data, pin, _ := stored(t, c)
			other := start(t, testConfig(t))
			if root := add(t, other, data, "pin=false&chunker=size-8192"); root != pin.Cid.Cid {
				t.Fatalf("the same file is %s here and %s there", pin.Cid, root)
			}
			damage.spoil(t, c.Dir, data)
			n := start(t, c)
			acquaint(n, other)
			n.reach(ctx, n.open, info(other))
			if code, body := rpc(t, n, "cat?arg="+pin.Cid.String()); code != http.StatusOK || body != string(data) {
				t.Errorf("cat: %d with %d bytes of %d", code, len(body), len(data))
			}
			if err := n.Fetch(ctx, pin, []peer.AddrInfo{info(other)}, nil); err != nil {
				t.Fatal(err)
			}
			if complete, missing, err := n.Complete(ctx, pin); err != nil || !complete {
				t.Errorf("%s is missing still, %v", missing, err)
			}
			if left := n.Damaged(); len(left) > 0 || len(n.Conditions()) > 0 {
				t.Errorf("still damaged: %v", left)
			}
			if err := n.GC(ctx, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDamageDoesNotServe has a node with damage asked by another: it sends
// nothing wrong, and notices.
func TestDamageDoesNotServe(t *testing.T) {
	ctx := testContext(t)
	c := testConfig(t)
	data, pin, leaf := stored(t, c)
	damages[0].spoil(t, c.Dir, data)
	n := start(t, c)
	asking := testConfig(t)
	asking.StallTimeout, asking.StallLimit = asking.StallTimeout/10, 2
	other := start(t, asking)
	acquaint(n, other)
	if err := other.Fetch(ctx, pin, []peer.AddrInfo{info(n)}, nil); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("a fetch of what is damaged: %v", err)
	}
	if got := n.Damaged(); len(got) != 1 || got[0] != leaf {
		t.Errorf("damaged are %v", got)
	}
}

// TestReadErrors puts a file system below the store that cannot open, or cannot
// read, files for a while. What is read then is an error, and no damage unless
// the disk says so.
func TestReadErrors(t *testing.T) {
	for _, test := range []struct {
		err    error
		op     errorfs.OpKind
		damage bool
	}{
		{syscall.EMFILE, errorfs.OpOpen, false},
		{syscall.EIO, errorfs.OpFileReadAt, true},
		{io.ErrUnexpectedEOF, errorfs.OpFileReadAt, true},
		{syscall.ENOMEM, errorfs.OpFileReadAt, false},
	} {
		t.Run(test.err.Error(), func(t *testing.T) {
			ctx := t.Context()
			fault := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind == test.op && (strings.HasSuffix(op.Path, ".blob") || strings.HasSuffix(op.Path, ".sst")) {
					return test.err
				}
				return nil
			})}
			options := pebbleOptions(new(atomic.Bool))
			options.Logger = quiet{}
			options.FS = blobFS{errorfs.Wrap(vfs.Default, fault)}
			dir := t.TempDir()
			open := func() *guardedStore {
				db, err := pebble.Open(dir, options)
				if err != nil {
					t.Fatal(err)
				}
				inner, err := pebbleds.NewDatastore(dir, pebbleds.WithPebbleDB(db))
				if err != nil {
					t.Fatal(err)
				}
				store := newPebbleStore(inner, new(atomic.Bool))
				found, err := openDamage(ctx, store, make(chan struct{}, 1), slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				return &guardedStore{Datastore: store, space: &space{}, damage: found, oneLog: true}
			}
			store := open()
			blk := rawBlock(t, random(t, 100<<10))
			record := ds.NewKey("/holdfast/pins/x")
			for key, value := range map[ds.Key][]byte{blockKey(blk.Cid()): blk.RawData(), record: []byte("r")} {
				if err := store.Put(ctx, key, value); err != nil {
					t.Fatal(err)
				}
			}
			if err := store.Close(); err != nil { // no file is open, nothing is cached
				t.Fatal(err)
			}
			store = open()
			fault.On()
			// What is cached may be read; nothing may be read wrong.
			whole := map[ds.Key][]byte{record: []byte("r"), blockKey(blk.Cid()): blk.RawData()}
			failed := 0
			wrong := func(what string, key ds.Key, err error, right bool) {
				t.Helper()
				if err != nil {
					failed++
				} else if !right {
					t.Errorf("%s of %s read what is not there", what, key)
				}
			}
			for key, value := range whole {
				got, err := store.Get(ctx, key)
				wrong("Get", key, err, bytes.Equal(got, value))
				size, err := store.Datastore.GetSize(ctx, key)
				wrong("GetSize", key, err, size == len(value))
				has, err := store.Datastore.Has(ctx, key)
				wrong("Has", key, err, has)
				found, err := store.Query(ctx, query.Query{Prefix: key.Parent().String()})
				var all []query.Entry
				if err == nil {
					all, err = found.Rest()
				}
				wrong("Query", key, err, len(all) == 1 && bytes.Equal(all[0].Value, value))
			}
			if failed < 2 { // Get and Query of the block, which no cache has
				t.Errorf("%d reads failed", failed)
			}
			fault.Off()
			if _, err := store.Get(ctx, record); err != nil {
				t.Errorf("afterwards: %v", err)
			}
			got, err := store.Get(ctx, blockKey(blk.Cid()))
			if damaged := store.damage.list(); test.damage != (len(damaged) == 1) || test.damage != (err != nil) {
				t.Errorf("afterwards the block reads %v, and damaged are %v", err, damaged)
			}
			if err == nil && !bytes.Equal(got, blk.RawData()) {
				t.Errorf("afterwards the block has %d bytes", len(got))
			}
			if err := store.Put(ctx, blockKey(blk.Cid()), blk.RawData()); err != nil {
				t.Error(err)
			}
			if got, err := store.Get(ctx, blockKey(blk.Cid())); err != nil || !bytes.Equal(got, blk.RawData()) {
				t.Errorf("written anew, the block has %d bytes, %v", len(got), err)
			}
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// quiet is a log that nobody reads.
type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

// TestMarkStopsAtErrors: what is kept is known for sure, or nothing is. (INV-PINNED)
func TestMarkStopsAtErrors(t *testing.T) {
	leaf := rawBlock(t, []byte("leaf"))
	top := protobufBlock(t, leaf.Cid())
	undecodable, err := blocks.NewBlockWithCid([]byte("nonsense"), cid.NewCidV1(cid.DagProtobuf, rawBlock(t, []byte("nonsense")).Cid().Hash()))
	if err != nil {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	for _, test := range []struct {
		name  string
		begin root
		read  error // of top
		fails bool
		keeps []cid.Cid
	}{
		{"whole", root{cid: top.Cid(), whole: true}, nil, false, []cid.Cid{top.Cid(), leaf.Cid()}},
		{"a pin's block is missing", root{cid: top.Cid(), whole: true}, ds.ErrNotFound, true, nil},
		{"a block that is still to be fetched is missing", root{cid: top.Cid(), whole: false}, ds.ErrNotFound, false, []cid.Cid{top.Cid()}},
		{"damaged", root{cid: top.Cid(), whole: false}, &damagedError{cid: top.Cid(), online: true}, true, nil},
		{"cannot be read", root{cid: top.Cid(), whole: false}, boom, true, nil},
		{"cannot be decoded", root{cid: undecodable.Cid(), whole: true}, nil, false, []cid.Cid{undecodable.Cid()}},
		{"codec is not known", root{cid: cid.NewCidV1(0x90, top.Cid().Hash())}, nil, true, nil},
		{"codec is not known, and a pin needs it", root{cid: cid.NewCidV1(0x90, top.Cid().Hash()), whole: true}, nil, true, nil},
		{"codec is not known, and only the cluster wants it", root{cid: cid.NewCidV1(0x90, top.Cid().Hash()), wanted: true}, nil, false, []cid.Cid{top.Cid()}},
	} {
		m := newMark(func(_ context.Context, c cid.Cid) (blocks.Block, error) {
			if c == undecodable.Cid() {
				return undecodable, nil
			}
			return top, test.read
		})
		err := m.run(t.Context(), func(add func(root) bool) error { add(test.begin); return nil })
		if test.fails != (err != nil) {
			t.Errorf("%s: %v", test.name, err)
		}
		for _, c := range test.keeps {
			if !m.kept.HasBlock(c) {
				t.Errorf("%s: %s is not kept", test.name, c)
			}
		}
	}
	m := newMark(nil)
	if err := m.run(t.Context(), func(func(root) bool) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("pins that cannot be listed: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newMark(nil).run(ended, func(func(root) bool) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

// protobufBlock is a dag-pb block with these links.
func protobufBlock(t testing.TB, links ...cid.Cid) blocks.Block {
	t.Helper()
	var data []byte
	for _, c := range links {
		data = append(append(data, 0x12, byte(2+c.ByteLen()), 0x0a, byte(c.ByteLen())), c.Bytes()...)
	}
	c, err := cid.V1Builder{Codec: cid.DagProtobuf, MhType: rawBlock(t, nil).Cid().Prefix().MhType}.Sum(data)
	if err != nil {
		t.Fatal(err)
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
