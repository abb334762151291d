package node

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// TestHostileBlocks: blocks that are no good by their codec, or nest without end,
// cannot be pinned, which is said with the reason; they hold up no collection,
// and every way to read them ends.
func TestHostileBlocks(t *testing.T) {
	ctx := testContext(t)
	a, b := start(t, testConfig(t)), start(t, testConfig(t))
	acquaint(a, b)
	const size = 2<<20 - 100 // what bitswap sends
	nested := func(begin, end string) []byte {
		n := size / (len(begin) + len(end))
		return []byte(strings.Repeat(begin, n) + "0" + strings.Repeat(end, n))
	}
	for _, test := range []struct {
		name  string
		codec uint64
		data  []byte
		links bool // the codec may have links, so the block must be decoded to be pinned
	}{
		{"random bytes", cid.DagProtobuf, random(t, 100), true},
		{"dag-pb", cid.DagProtobuf, bytes.Repeat([]byte{0x12}, size), true},
		{"dag-cbor arrays", cid.DagCBOR, nested("\x81", ""), true},
		{"dag-cbor maps", cid.DagCBOR, nested("\xa1\x61a", ""), true},
		{"cbor arrays", 0x51, nested("\x81", ""), true},
		{"dag-json arrays", cid.DagJSON, nested("[", "]"), true},
		{"dag-json maps", cid.DagJSON, nested(`{"/":`, "}"), true},
		{"json arrays", 0x0200, nested("[", "]"), true},
		{"dag-jose", 0x85, nested("\x81", ""), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := cid.V1Builder{Codec: test.codec, MhType: multihash.SHA2_256}.Sum(test.data)
			if err != nil {
				t.Fatal(err)
			}
			blk, err := blocks.NewBlockWithCid(test.data, c)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.PutBlocks(ctx, []blocks.Block{blk}); err != nil {
				t.Fatal(err)
			}
			for _, n := range []*Node{b, b, a} { // from afar, from afar again or its disk, its own
				err := n.Fetch(ctx, dataPin(c), []peer.AddrInfo{info(a)}, nil)
				if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), "decode") {
					t.Errorf("fetch: %.300v", err)
				}
			}
			if _, err := a.Check(ctx, dataPin(c), nil); !errors.Is(err, api.ErrInvalid) {
				t.Errorf("check: %.300v", err)
			}
			for _, path := range []string{
				"dag/get?arg=", "dag/export?progress=false&arg=", "dag/stat?arg=", "refs?recursive=true&arg=", "dag/resolve?arg=", "ls?arg=", "cat?arg=", "pin/add?arg=",
				"dag/get?output-codec=dag-cbor&arg=", "dag/get?output-codec=json&arg=", "object/stat?arg=",
			} {
				code, body := kuboRPC(t, a, path+c.String())
				if code == 0 || strings.HasPrefix(path, "pin/add") && !strings.Contains(body, "Message") {
					t.Errorf("%s: %d %.300s", path, code, body)
				}
			}
			for _, format := range []string{"dag-json", "dag-cbor", "json", "cbor", "car", "raw", "tar", ""} {
				w := httptest.NewRecorder()
				a.Gateway().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ipfs/"+c.String()+"?format="+format, nil))
				if format == "raw" && (w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), test.data)) {
					t.Errorf("%s: %d", format, w.Code)
				}
			}
			if err := a.Pin(ctx, []api.Pin{{Cid: api.NewCid(c), PinOptions: api.PinOptions{Mode: api.ModeDirect}}}); err != nil {
				t.Fatal(err)
			}
			garbage := rawBlock(t, []byte("garbage"))
			if err := a.PutBlocks(ctx, []blocks.Block{garbage}); err != nil {
				t.Fatal(err)
			}
			if err := a.GC(ctx, func(api.RepoGCKey) {}); err != nil {
				t.Errorf("collection: %v", err)
			}
			if there, _, err := a.Complete(ctx, dataPin(garbage.Cid())); there || err != nil {
				t.Errorf("garbage is there: %v, %v", there, err)
			}
		})
	}
}
