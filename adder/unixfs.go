package adder

import (
	"context"
	"io"
	"mime/multipart"
	"os"
	"path"
	"time"

	"github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/files"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/ipld/unixfs"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	"github.com/ipfs/boxo/ipld/unixfs/importer/trickle"
	"github.com/ipfs/go-cid"
	ipld "github.com/ipfs/go-ipld-format"

	"holdfast/api"
)

// progressBytes is how much of a file is read between two outputs of progress.
const progressBytes = 256 << 10

// importer makes UnixFS DAGs of an upload, with the same CIDs as ipfs add.
type importer struct {
	plan   plan
	put    func(cid.Cid, []byte) error
	emit   func(api.AddedOutput) error
	memory *share

	mode  os.FileMode // that the client sent for the top entry at hand
	mtime time.Time
}

// link points to a finished DAG.
type link struct {
	cid  cid.Cid
	size uint64 // cumulative
}

// run reads a whole upload and returns the outputs of its roots: with Wrap the
// one folder around everything, otherwise every entry at the top.
func (im *importer) run(ctx context.Context, upload *multipart.Reader) ([]api.AddedOutput, error) {
	top, err := files.NewFileFromPartReader(upload, "multipart/form-data")
	if err != nil {
		return nil, err
	}
	var roots []api.AddedOutput
	wrapper, count := newFolder(), 0
	entries := top.Entries()
	for entries.Next() {
		count++
		if !im.plan.params.Wrap {
			im.mode, im.mtime = entries.Node().Mode(), entries.Node().ModTime()
		}
		if im.plan.params.Wrap {
			if err := im.addChild(ctx, wrapper, "", entries.Name(), entries.Node(), 1); err != nil {
				return nil, err
			}
			continue
		}
		root, err := im.addRoot(ctx, entries.Name(), entries.Node())
		if err != nil {
			return nil, err
		}
		if err := im.memory.take(bytesPerRoot + len(root.Name)); err != nil {
			return nil, err
		}
		roots = append(roots, root)
	}
	if err := entries.Err(); err != nil {
		return nil, err
	}
	if count == 0 {
		return nil, api.Errorf(api.CodeInvalid, "the upload has no file; send at least one part of multipart/form-data with a file name")
	}
	if !im.plan.params.Wrap {
		return roots, nil
	}
	l, err := im.finishFolder(wrapper, "")
	if err != nil {
		return nil, err
	}
	return []api.AddedOutput{im.output("", l)}, nil
}

// addRoot adds one entry at the top of an upload without Wrap.
func (im *importer) addRoot(ctx context.Context, name string, node files.Node) (api.AddedOutput, error) {
	if folder, ok := node.(files.Directory); ok {
		tree := newFolder()
		if err := im.addEntries(ctx, tree, name, folder, 1); err != nil {
			return api.AddedOutput{}, err
		}
		l, err := im.finishFolder(tree, name)
		return im.output(name, l), err
	}
	l, err := im.addLeaf(ctx, name, node)
	if err != nil {
		return api.AddedOutput{}, err
	}
	if name == "" {
		name = l.cid.String()
	}
	return im.output(name, l), nil
}

// addEntries adds what a folder of the upload holds.
func (im *importer) addEntries(ctx context.Context, into *folder, at string, from files.Directory, depth int) error {
	if depth > api.MaxAddDepth {
		return api.ErrTooDeep
	}
	entries := from.Entries()
	for entries.Next() {
		if err := im.addChild(ctx, into, at, entries.Name(), entries.Node(), depth); err != nil {
			return err
		}
	}
	return entries.Err()
}

// addChild adds one entry of a folder. A file without a name takes its CID.
func (im *importer) addChild(ctx context.Context, into *folder, at, name string, node files.Node, depth int) error {
	full := path.Join(at, name)
	if from, ok := node.(files.Directory); ok {
		if err := im.memory.take(bytesPerEntry + len(name)); err != nil {
			return err
		}
		child, err := into.child(name, full)
		if err != nil {
			return err
		}
		return im.addEntries(ctx, child, full, from, depth+1)
	}
	l, err := im.addLeaf(ctx, full, node)
	if err != nil {
		return err
	}
	if name == "" {
		name = l.cid.String()
		full = path.Join(at, name)
	}
	if err := im.memory.take(bytesPerEntry + len(name)); err != nil {
		return err
	}
	if err := into.add(name, full, l); err != nil {
		return err
	}
	return im.emit(im.output(full, l))
}

// addLeaf adds a file or a symbolic link.
func (im *importer) addLeaf(ctx context.Context, name string, node files.Node) (link, error) {
	defer node.Close()
	if err := ctx.Err(); err != nil {
		return link{}, err
	}
	switch node := node.(type) {
	case *files.Symlink:
		return im.addSymlink(node.Target)
	case files.File:
		var from io.Reader = node
		if im.plan.params.Progress {
			from = &progressReader{from: node, name: name, emit: func(o api.AddedOutput) error {
				o.Mode, o.Mtime = im.mode, im.mtime
				return im.emit(o)
			}}
		}
		return im.addFile(from)
	}
	return link{}, api.Errorf(api.CodeInvalid, "%q is neither a file, a folder nor a symbolic link", name)
}

func (im *importer) addFile(from io.Reader) (link, error) {
	splitter, err := chunk.FromString(from, im.plan.params.Chunker)
	if err != nil {
		return link{}, err
	}
	params := helpers.DagBuilderParams{Dagserv: writeOnly{im.put}, RawLeaves: im.plan.rawLeaves,
		Maxlinks: helpers.DefaultLinksPerBlock, CidBuilder: im.plan.prefix}
	builder, err := params.New(splitter)
	if err != nil {
		return link{}, err
	}
	layout := balanced.Layout
	if im.plan.trickle {
		layout = trickle.Layout
	}
	node, err := layout(builder)
	if err != nil {
		return link{}, err
	}
	return linkTo(node)
}

func (im *importer) addSymlink(target string) (link, error) {
	data, err := unixfs.SymlinkData(target)
	if err != nil {
		return link{}, err
	}
	node := merkledag.NodeWithData(data)
	if err := node.SetCidBuilder(im.plan.prefix); err != nil {
		return link{}, err
	}
	return im.putNode(node)
}

// putNode writes a node and links to it.
func (im *importer) putNode(node ipld.Node) (link, error) {
	if err := im.put(node.Cid(), node.RawData()); err != nil {
		return link{}, err
	}
	return linkTo(node)
}

func linkTo(node ipld.Node) (link, error) {
	size, err := node.Size()
	return link{cid: node.Cid(), size: size}, err
}

func (im *importer) output(name string, l link) api.AddedOutput {
	return api.AddedOutput{Name: name, Cid: api.NewCid(l.cid), Size: l.size, Mode: im.mode, Mtime: im.mtime}
}

// progressReader tells how much of a file was read.
type progressReader struct {
	from       io.Reader
	name       string
	emit       func(api.AddedOutput) error
	read, told uint64
}

func (r *progressReader) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.read += uint64(n)
	if r.read-r.told >= progressBytes || err == io.EOF {
		r.told = r.read
		if failed := r.emit(api.AddedOutput{Name: r.name, Bytes: r.read}); failed != nil {
			return n, failed
		}
	}
	return n, err
}

// writeOnly lets the importers of boxo put blocks. They never read any back.
type writeOnly struct {
	put func(cid.Cid, []byte) error
}

func (w writeOnly) Add(_ context.Context, node ipld.Node) error {
	return w.put(node.Cid(), node.RawData())
}

func (w writeOnly) AddMany(ctx context.Context, nodes []ipld.Node) error {
	for _, node := range nodes {
		if err := w.Add(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

func (w writeOnly) Get(_ context.Context, c cid.Cid) (ipld.Node, error) {
	return nil, ipld.ErrNotFound{Cid: c}
}

func (w writeOnly) GetMany(_ context.Context, cids []cid.Cid) <-chan *ipld.NodeOption {
	out := make(chan *ipld.NodeOption, len(cids))
	for _, c := range cids {
		out <- &ipld.NodeOption{Err: ipld.ErrNotFound{Cid: c}}
	}
	close(out)
	return out
}

func (w writeOnly) Remove(context.Context, cid.Cid) error       { return nil }
func (w writeOnly) RemoveMany(context.Context, []cid.Cid) error { return nil }
