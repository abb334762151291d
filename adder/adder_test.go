package adder

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/boxo/files"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

func tree() files.Directory {
	return dir(map[string]files.Node{"d": dir(map[string]files.Node{"big": file(noise(7, 5<<20)), "small": file([]byte("s"))})})
}

func TestBlocksStandBeforeThePin(t *testing.T) {
	w := newWorld(2, first, second)
	params := api.NewAddParams()
	params.Name, params.RequestID = "mine", "r1"
	out, err := w.added(t.Context(), Config{}, upload(t, tree()), params)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range out {
		names = append(names, o.Name)
	}
	if want := []string{"d/big", "d/small", "d"}; !slices.Equal(names, want) {
		t.Errorf("outputs %q, want %q", names, want)
	}
	root := out[len(out)-1]
	if len(w.pins) != 1 || w.pins[0].Cid != root.Cid || w.pins[0].Options.Name != "mine" || !slices.Equal(w.pins[0].Allocations, []peer.ID{first, second}) {
		t.Errorf("pins %+v of %v", w.pins, root)
	}
	if w.pins[0].RequestID != "r1/"+root.Cid.String() {
		t.Errorf("request id %q", w.pins[0].RequestID)
	}
	if !slices.Equal(root.Allocations, []peer.ID{first, second}) {
		t.Errorf("output %+v", root)
	}
	for _, id := range []peer.ID{first, second} {
		// 20 chunks, the file above them, the small file, the folder.
		if len(w.stores[id]) != 23 || w.open[id] != 0 {
			t.Errorf("%s has %d blocks, %d destinations open", id, len(w.stores[id]), w.open[id])
		}
	}
	if w.leases != 0 {
		t.Error("the lease is still held")
	}
}

func TestEveryRootIsPinned(t *testing.T) {
	w := newWorld(1, first)
	up := upload(t, dir(map[string]files.Node{"a": file([]byte("a")), "b": file([]byte("b")), "c": file([]byte("a")), "d": dir(nil)}))
	out, err := w.added(t.Context(), Config{}, up, api.NewAddParams())
	if err != nil || len(out) != 4 {
		t.Fatal(out, err)
	}
	pinned := map[api.Cid]bool{}
	for _, p := range w.pins {
		pinned[p.Cid] = true
	}
	for _, o := range out {
		if !pinned[o.Cid] {
			t.Errorf("%s is not pinned", o.Name)
		}
	}
	if len(w.pins) != 3 {
		t.Errorf("%d pins for three different roots", len(w.pins))
	}
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		name   string
		params func(*api.AddParams)
		stored []peer.ID
		pins   int
	}{
		{"only-hash writes nothing and pins nothing", func(p *api.AddParams) { p.OnlyHash = true }, nil, 0},
		{"no-pin writes", func(p *api.AddParams) { p.NoPin = true }, []peer.ID{first, second}, 0},
		{"local writes here and pins where the cluster says", func(p *api.AddParams) { p.Local = true }, []peer.ID{self}, 1},
		{"default", func(*api.AddParams) {}, []peer.ID{first, second}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(2, first, second)
			params := api.NewAddParams()
			c.params(&params)
			out, err := w.added(t.Context(), Config{}, upload(t, tree()), params)
			if err != nil || len(out) != 3 || len(w.pins) != c.pins || len(w.stores) != len(c.stored) {
				t.Fatalf("%v, %d outputs, %d pins, %d stores", err, len(out), len(w.pins), len(w.stores))
			}
			for _, id := range c.stored {
				if len(w.stores[id]) != 23 {
					t.Errorf("%s has %d blocks", id, len(w.stores[id]))
				}
			}
			if c.pins == 1 && !slices.Equal(w.pins[0].Allocations, []peer.ID{first, second}) {
				t.Errorf("pin %+v", w.pins[0])
			}
			if params.Local && !slices.Equal(w.asked[0].UserAllocations, []peer.ID{self}) {
				t.Errorf("asked for %v", w.asked[0].UserAllocations)
			}
		})
	}
}

func TestEverywhere(t *testing.T) {
	w := newWorld(1, first, second, third)
	w.placement.Everywhere, w.placement.Min = true, api.Everywhere
	w.fault = func(id peer.ID, _ int) error {
		if id == second {
			return errors.New("gone")
		}
		return nil
	}
	if _, err := w.added(t.Context(), Config{}, upload(t, tree()), api.NewAddParams()); err != nil {
		t.Fatal(err)
	}
	if len(w.pins) != 1 || w.pins[0].Allocations != nil || len(w.stores[third]) != 23 {
		t.Errorf("pins %+v", w.pins)
	}
}

func TestBadParameters(t *testing.T) {
	for name, change := range map[string]func(*api.AddParams){
		"format":   func(p *api.AddParams) { p.Format = "tar" },
		"layout":   func(p *api.AddParams) { p.Layout = "round" },
		"chunker":  func(p *api.AddParams) { p.Chunker = "size-0" },
		"too big":  func(p *api.AddParams) { p.Chunker = "size-2097152" },
		"hash":     func(p *api.AddParams) { p.HashFun = "md6" },
		"unsafe":   func(p *api.AddParams) { p.HashFun = "md5" },
		"version":  func(p *api.AddParams) { p.CidVersion = 2 },
		"car wrap": func(p *api.AddParams) { p.Format, p.Wrap = "car", true },
		"factors":  func(p *api.AddParams) { p.ReplicationFactorMin, p.ReplicationFactorMax = 3, 2 },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(1, first)
			params := api.NewAddParams()
			change(&params)
			_, err := w.added(t.Context(), Config{}, upload(t, tree()), params)
			if !errors.Is(err, api.ErrInvalid) || len(w.asked) != 0 {
				t.Errorf("%v, the cluster was asked %d times", err, len(w.asked))
			}
		})
	}
}

func TestBadUploads(t *testing.T) {
	t.Run("no file", func(t *testing.T) {
		w := newWorld(1, first)
		if _, err := w.added(t.Context(), Config{}, parts(t), api.NewAddParams()); !errors.Is(err, api.ErrInvalid) {
			t.Error(err)
		}
	})
	t.Run("two entries of one name in a folder", func(t *testing.T) {
		w := newWorld(1, first)
		up := parts(t, part{"d/f", strings.NewReader("1")}, part{"d/f", strings.NewReader("2")})
		if _, err := w.added(t.Context(), Config{}, up, api.NewAddParams()); !errors.Is(err, api.ErrInvalid) || len(w.pins) != 0 {
			t.Error(err)
		}
	})
	t.Run("too deep", func(t *testing.T) {
		w := newWorld(1, first)
		up := parts(t, part{strings.Repeat("d/", 5000) + "f", strings.NewReader("1")})
		if _, err := w.added(t.Context(), Config{}, up, api.NewAddParams()); !errors.Is(err, api.ErrInvalid) || len(w.pins) != 0 {
			t.Error(err)
		}
	})
}

func TestFilesByNameAlone(t *testing.T) {
	w := newWorld(1, first)
	params := api.NewAddParams()
	params.Progress = true
	out, err := w.added(t.Context(), Config{}, parts(t, part{"a/b/c", strings.NewReader("1")}, part{"a/x", strings.NewReader("2")}, part{"", strings.NewReader("hi\n")}), params)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, o := range out {
		if o.Cid.Defined() {
			got = append(got, o.Name)
		} else if o.Bytes == 0 {
			t.Errorf("progress %+v", o)
		}
	}
	if len(out) != len(got)+3 || !slices.Equal(got[:3], []string{"a/b/c", "a/x", "a/b"}) || len(w.pins) != 2 {
		t.Errorf("outputs %q, %d pins", got, len(w.pins))
	}
	if unnamed := out[len(out)-1]; unnamed.Name != unnamed.Cid.String() {
		t.Errorf("a file without a name is named by its CID, not %q", unnamed.Name)
	}
}

// Folders nest so deep and no deeper, and what is refused leaves no pin.
func TestDepthOfFolders(t *testing.T) {
	for levels, code := range map[int]api.Code{api.MaxAddDepth: "", api.MaxAddDepth + 1: api.CodeInvalid} {
		w := newWorld(1, first)
		name := strings.Repeat("d/", levels) + "f"
		_, err := w.added(t.Context(), Config{}, parts(t, part{name, strings.NewReader("deep")}), api.NewAddParams())
		if api.CodeOf(err) != code || (len(w.pins) > 0) != (code == "") {
			t.Errorf("%d levels: %v, %d pins", levels, err, len(w.pins))
		}
		if code != "" && !strings.Contains(err.Error(), "deeper than 1024 levels") {
			t.Error(err)
		}
	}
}
