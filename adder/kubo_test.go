package adder

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ipfs/boxo/files"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/coreapi"
	coreiface "github.com/ipfs/kubo/core/coreiface"
	"github.com/ipfs/kubo/core/coreiface/options"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// TestSameAsKubo adds the same trees with the same options here and in a node
// of Kubo, and compares every output.
func TestSameAsKubo(t *testing.T) {
	node, err := core.NewNode(t.Context(), &core.BuildCfg{})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	kubo, err := coreapi.NewCoreAPI(node)
	if err != nil {
		t.Fatal(err)
	}
	trees := map[string]func() files.Directory{
		"empty file": func() files.Directory { return dir(map[string]files.Node{"f": file(nil)}) },
		"small file": func() files.Directory { return dir(map[string]files.Node{"f": file([]byte("hello"))}) },
		"one chunk":  func() files.Directory { return dir(map[string]files.Node{"f": file(noise(1, 256<<10))}) },
		"large file": func() files.Directory { return dir(map[string]files.Node{"f": file(noise(2, 3<<20+17))}) },
		"empty dir":  func() files.Directory { return dir(map[string]files.Node{"d": dir(nil)}) },
		"nested":     func() files.Directory { return dir(map[string]files.Node{"d": nested()}) },
		"symlink":    func() files.Directory { return dir(map[string]files.Node{"l": files.NewLinkFile("to/there", nil)}) },
		"many inside": func() files.Directory {
			return dir(map[string]files.Node{"d": dir(map[string]files.Node{"m": manyFiles(4000), "x": file([]byte("x"))})})
		},
	}
	for name, tree := range trees {
		for n, o := range optionTable() {
			if strings.HasPrefix(name, "many") && o.slow || raced && n%4 != 0 {
				continue
			}
			t.Run(name+"/"+o.String(), func(t *testing.T) {
				compare(t, kubo, tree, o)
			})
		}
	}
}

func nested() files.Directory {
	return dir(map[string]files.Node{"a": file([]byte("a")), "b": dir(map[string]files.Node{"c": file(noise(3, 700<<10)),
		"empty": dir(nil), "link": files.NewLinkFile("../a", nil)}), "z": file(nil)})
}

// combination is one choice of options; nil takes the default.
type combination struct {
	version *int
	raw     *bool
	hash    string
	chunker string
	trickle bool
	wrap    bool
	slow    bool
}

func (o combination) String() string {
	text := fmt.Sprintf("chunker=%s hash=%s trickle=%v wrap=%v", o.chunker, o.hash, o.trickle, o.wrap)
	if o.version != nil {
		text += fmt.Sprintf(" version=%d", *o.version)
	}
	if o.raw != nil {
		text += fmt.Sprintf(" raw=%v", *o.raw)
	}
	return text
}

func optionTable() []combination {
	var out []combination
	for _, version := range []*int{nil, new(0), new(1)} {
		for _, raw := range []*bool{nil, new(true), new(false)} {
			for _, hash := range []string{"sha2-256", "blake2b-256", "sha2-512", "blake3"} {
				if hash != "sha2-256" && version != nil && *version == 0 {
					continue // Kubo refuses it, and the edges with it
				}
				for _, trickle := range []bool{false, true} {
					out = append(out, combination{version: version, raw: raw, hash: hash, chunker: "size-262144", trickle: trickle, slow: hash != "sha2-256" || trickle})
				}
			}
		}
	}
	for _, chunker := range []string{"size-1000", "rabin", "rabin-1024-2048-4096", "buzhash", "size-2096896"} {
		out = append(out, combination{chunker: chunker, hash: "sha2-256", slow: true}, combination{chunker: chunker, hash: "sha2-256", version: new(1), trickle: true, slow: true})
	}
	return append(out, combination{wrap: true, chunker: "size-262144", hash: "sha2-256"}, combination{wrap: true, version: new(1), chunker: "size-262144", hash: "sha2-256"})
}

func compare(t *testing.T, kubo coreiface.CoreAPI, tree func() files.Directory, o combination) {
	want := kuboOutputs(t, kubo, tree(), o)
	params := api.NewAddParams()
	params.Chunker, params.HashFun, params.Wrap, params.OnlyHash = o.chunker, o.hash, o.wrap, true
	if o.trickle {
		params.Layout = "trickle"
	}
	if o.version != nil {
		params.CidVersion = *o.version
	}
	// What an edge does with the absent and the given.
	if o.hash != "sha2-256" && o.version == nil {
		params.CidVersion = 1
	}
	params.RawLeaves = params.CidVersion > 0
	if o.raw != nil {
		params.RawLeaves = *o.raw
	}
	got, err := newWorld(1).added(t.Context(), Config{}, upload(t, tree()), params)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, g := range got {
		lines = append(lines, fmt.Sprintf("%s %s %d", g.Name, g.Cid, g.Size))
	}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// kuboOutputs adds as Kubo's add command does.
func kuboOutputs(t *testing.T, kubo coreiface.CoreAPI, tree files.Directory, o combination) []string {
	t.Helper()
	opts := []options.UnixfsAddOption{options.Unixfs.Chunker(o.chunker), options.Unixfs.Hash(multihash.Names[o.hash]), options.Unixfs.Pin(false, "")}
	if o.version != nil {
		opts = append(opts, options.Unixfs.CidVersion(*o.version))
	}
	if o.raw != nil {
		opts = append(opts, options.Unixfs.RawLeaves(*o.raw))
	}
	if o.trickle {
		opts = append(opts, options.Unixfs.Layout(options.TrickleLayout))
	}
	top := tree.Entries()
	if o.wrap {
		top = files.NewSliceDirectory([]files.DirEntry{files.FileEntry("", tree)}).Entries()
	}
	var out []string
	for top.Next() {
		events := make(chan any, 16<<10)
		if _, err := kubo.Unixfs().Add(t.Context(), top.Node(), append(opts, options.Unixfs.Events(events))...); err != nil {
			t.Fatal(err)
		}
		close(events)
		for event := range events {
			e := event.(*coreiface.AddEvent)
			name := top.Name()
			if _, folder := top.Node().(files.Directory); folder {
				name = strings.TrimPrefix(name+"/"+e.Name, "/")
				name = strings.TrimSuffix(name, "/")
			}
			out = append(out, fmt.Sprintf("%s %s %s", name, e.Path.RootCid(), e.Size))
		}
	}
	return out
}
