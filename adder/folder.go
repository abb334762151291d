package adder

import (
	"context"
	"maps"
	"path"
	"slices"

	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/hamt"
	ipld "github.com/ipfs/go-ipld-format"

	"holdfast/api"
)

// Kubo's defaults: a folder whose links take more than shardAbove bytes (names
// and CIDs) becomes a HAMT of this width.
const (
	shardAbove = 256 << 10
	shardWidth = 256
)

// folder gathers the links of a folder. Nodes are made of it at the end, when
// all its entries are known; until then it takes about 150 bytes per entry.
type folder struct {
	links   map[string]link
	folders map[string]*folder
}

func newFolder() *folder { return &folder{} }

// add links to a file; full is its path in the upload, for the error.
func (f *folder) add(name, full string, l link) error {
	_, file := f.links[name]
	_, inner := f.folders[name]
	if file || inner {
		return api.Errorf(api.CodeInvalid, "the upload has two entries named %q", full)
	}
	if f.links == nil {
		f.links = make(map[string]link)
	}
	f.links[name] = l
	return nil
}

// child returns the folder of that name inside f; parts of it may come more
// than once.
func (f *folder) child(name, full string) (*folder, error) {
	if name == "" {
		return f, nil
	}
	if _, taken := f.links[name]; taken {
		return nil, api.Errorf(api.CodeInvalid, "the upload has a file and a folder named %q", full)
	}
	child := f.folders[name]
	if child == nil {
		child = newFolder()
		if f.folders == nil {
			f.folders = make(map[string]*folder)
		}
		f.folders[name] = child
	}
	return child, nil
}

// finishFolder makes the nodes of a folder, its inner folders first, and tells
// of each inner one. The caller tells of the folder itself.
func (im *importer) finishFolder(f *folder, at string) (link, error) {
	for _, name := range slices.Sorted(maps.Keys(f.folders)) {
		full := path.Join(at, name)
		l, err := im.finishFolder(f.folders[name], full)
		if err != nil {
			return link{}, err
		}
		delete(f.folders, name)
		if err := f.add(name, full, l); err != nil {
			return link{}, err
		}
		if err := im.emit(im.output(full, l)); err != nil {
			return link{}, err
		}
	}
	size := 0
	for name, l := range f.links {
		size += len(name) + l.cid.ByteLen()
	}
	if size > shardAbove {
		return im.putShards(f)
	}
	node := unixfs.EmptyDirNode()
	if err := node.SetCidBuilder(im.plan.prefix); err != nil {
		return link{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(f.links)) {
		if err := node.AddRawLink(name, f.links[name].ipld()); err != nil {
			return link{}, err
		}
	}
	return im.putNode(node)
}

// putShards writes a folder as a HAMT.
func (im *importer) putShards(f *folder) (link, error) {
	shard, err := hamt.NewShard(writeOnly{im.put}, shardWidth)
	if err != nil {
		return link{}, err
	}
	shard.SetCidBuilder(im.plan.prefix)
	for name, l := range f.links {
		if err := shard.SetLink(context.Background(), name, l.ipld()); err != nil {
			return link{}, err
		}
	}
	node, err := shard.Node()
	if err != nil {
		return link{}, err
	}
	return linkTo(node)
}

func (l link) ipld() *ipld.Link { return &ipld.Link{Cid: l.cid, Size: l.size} }
