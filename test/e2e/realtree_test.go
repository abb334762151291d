//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/api"
)

// A real tree of files survives the loss of a peer: every byte is read back
// from what is left, the lost copy is made again, and when nobody wants the
// tree any more it is gone.
func TestRealTree(t *testing.T) {
	tree := readTree(t, goSource(t))
	// The long grace shall not matter: two replicas are the minimum.
	c := newCluster(t, 3, map[string]string{"CLUSTER_REPAIR_BELOW_MAX_GRACE": "1h"})
	adder := c.peers[0]

	step := stopwatch(t)
	text := adder.mustCtl(5*time.Minute, "add", "--recursive", "--hidden", "--wait", "--quieter", "--replication", "2",
		"--allocations", adder.id.String(), tree.dir)
	root, err := api.DecodeCid(text)
	if err != nil {
		t.Fatal(err)
	}
	step("added and waited for")
	holders := c.holders(root, 2)
	if !slices.Contains(holders, adder) {
		t.Fatalf("the adding peer was asked for as a holder and is not one of %s", names(holders))
	}
	adder.kill()
	for _, p := range holders {
		if p != adder {
			tree.compare(t, p, root.String())
		}
	}
	step("read back from what is left")

	holders = c.waitTwoCopies(root)
	step("repaired")
	for _, p := range holders {
		if err := tree.compareArchive(t.Context(), p, root.String()); err != nil {
			t.Fatalf("the copy in the store of %s: %v", p.name, err)
		}
	}
	blocks, err := holders[0].refs(t.Context(), root.String())
	if err != nil {
		t.Fatal(err)
	}
	blocks[root.String()] = true
	if len(blocks) < len(tree.files) {
		t.Fatalf("the tree has %d files and its DAG %d blocks", len(tree.files), len(blocks))
	}
	step("read back from both copies")

	adder.startReady()
	c.waitWhole()
	waitStatus(t, adder, root, api.StatusRemote)
	if got := c.holders(root, 2); !slices.Equal(got, holders) {
		t.Errorf("the return of a peer moved the tree from %s to %s", names(holders), names(got))
	}
	c.collect()
	c.gone(blocks, adder)
	for _, p := range holders {
		if _, err := p.refs(t.Context(), root.String()); err != nil {
			t.Errorf("garbage collection took blocks of a pin: %v", err)
		}
	}
	step("dropped the third copy")

	adder.mustCtl(time.Minute, "pin", "rm", root.String())
	for _, p := range c.peers {
		waitStatus(t, p, root, api.StatusUnpinned)
	}
	c.collect()
	c.gone(blocks, c.peers...)
	step("unpinned and collected")
	c.samePinset(10 * time.Second)
	c.noPanic()
}

// stopwatch returns a function that logs what took how long.
func stopwatch(t *testing.T) func(what string) {
	last := time.Now()
	return func(what string) {
		t.Helper()
		t.Logf("%6.1f s  %s", time.Since(last).Seconds(), what)
		last = time.Now()
	}
}

func goSource(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "src")
}

// fileTree is a folder of the disk; files are slash paths below it.
type fileTree struct {
	dir   string
	files []string
}

func readTree(t *testing.T, dir string) fileTree {
	t.Helper()
	tree := fileTree{dir: dir}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		tree.files = append(tree.files, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.files) < 10_000 {
		t.Fatalf("%s has %d files only", dir, len(tree.files))
	}
	t.Logf("%s: %d files", dir, len(tree.files))
	return tree
}

// compare reads every file back from a peer in two ways: from its own store
// alone, and as a browser would.
func (f fileTree) compare(t *testing.T, p *testPeer, root string) {
	t.Helper()
	if err := f.compareArchive(t.Context(), p, root); err != nil {
		t.Fatalf("the copy in the store of %s: %v", p.name, err)
	}
	if err := f.compareGateway(t.Context(), p, root); err != nil {
		t.Fatalf("the gateway of %s: %v", p.name, err)
	}
}

// compareArchive reads the tree as one archive, from blocks that the peer has
// itself.
func (f fileTree) compareArchive(ctx context.Context, p *testPeer, root string) error {
	response, err := p.kubo(ctx, "get", "arg", root, "archive", "true", "offline", "true")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	missing := map[string]bool{}
	for _, name := range f.files {
		missing[name] = true
	}
	archive := tar.NewReader(response.Body)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%d files left: %w", len(missing), err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		name := strings.TrimPrefix(header.Name, root+"/")
		if !missing[name] {
			return fmt.Errorf("a file %q that was never added", header.Name)
		}
		delete(missing, name)
		got, err := io.ReadAll(archive)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := f.same(name, got); err != nil {
			return err
		}
	}
	for name := range missing {
		return fmt.Errorf("%d files are missing, such as %s", len(missing), name)
	}
	return nil
}

// compareGateway reads file by file.
func (f fileTree) compareGateway(ctx context.Context, p *testPeer, root string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("reading every file took over two minutes"))
	defer cancel()
	work := make(chan string)
	problems := make(chan error, 1)
	var readers sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		readers.Go(func() {
			for name := range work {
				if err := f.compareURL(ctx, p.gateway(root, name), name); err != nil {
					select {
					case problems <- err:
					default:
					}
				}
			}
		})
	}
	for _, name := range f.files {
		work <- name
	}
	close(work)
	readers.Wait()
	select {
	case err := <-problems:
		return err
	default:
		return nil
	}
}

func (p *testPeer) gateway(root, name string) string {
	return (&url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", p.ports.gateway), Path: "/ipfs/" + root + "/" + name}).String()
}

func (f fileTree) compareURL(ctx context.Context, target, name string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	// index.html is answered where it stands, not with a redirect to its folder.
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	got, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %w", target, response.Status, err)
	}
	return f.same(name, got)
}

func (f fileTree) same(name string, got []byte) error {
	want, err := os.ReadFile(filepath.Join(f.dir, filepath.FromSlash(name)))
	if err == nil && !bytes.Equal(want, got) {
		err = fmt.Errorf("%s: got %d bytes that are not the %d added", name, len(got), len(want))
	}
	return err
}

// holders waits until a pin has n allocations and returns those peers in the
// order of the cluster's.
func (c *testCluster) holders(root api.Cid, n int) []*testPeer {
	c.t.Helper()
	pin, err := c.alive()[0].rest.Allocation(c.t.Context(), root)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(pin.Allocations) != n {
		c.t.Fatalf("%s has %d allocations, not %d", root, len(pin.Allocations), n)
	}
	var out []*testPeer
	for _, p := range c.peers {
		if slices.Contains(pin.Allocations, p.id) {
			out = append(out, p)
		}
	}
	return out
}

// waitTwoCopies waits until two running peers say of themselves that they hold
// all of a pin, and returns them.
func (c *testCluster) waitTwoCopies(root api.Cid) []*testPeer {
	c.t.Helper()
	var pinned []*testPeer
	eventually(c.t, 2*time.Minute, "two live copies", func(ctx context.Context) error {
		pinned = nil
		var said []string
		for _, p := range c.alive() {
			info, err := p.status(ctx, root)
			said = append(said, fmt.Sprintf("%s: %s %s %v", p.name, info.Status, info.Error, err))
			if err == nil && info.Status == api.StatusPinned {
				pinned = append(pinned, p)
			}
		}
		if len(pinned) < 2 {
			return errors.New(strings.Join(said, "; "))
		}
		return nil
	})
	return pinned
}

func waitStatus(t *testing.T, p *testPeer, root api.Cid, want api.TrackerStatus) {
	t.Helper()
	eventually(t, time.Minute, fmt.Sprintf("%s is %s on %s", root, want, p.name), func(ctx context.Context) error {
		info, err := p.status(ctx, root)
		if err == nil && info.Status != want {
			err = fmt.Errorf("it is %s %s", info.Status, info.Error)
		}
		return err
	})
}

// collect lets every peer collect its garbage.
func (c *testCluster) collect() {
	c.t.Helper()
	c.peers[0].mustCtl(3*time.Minute, "ipfs", "gc")
}

// gone checks that none of some blocks is in the stores of some peers.
func (c *testCluster) gone(blocks map[string]bool, from ...*testPeer) {
	c.t.Helper()
	hashes := multihashes(c.t, blocks)
	for _, p := range from {
		local, err := p.localRefs(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		left := 0
		for hash := range multihashes(c.t, local) {
			if hashes[hash] && !isEmptyFolder(hash) {
				left++
			}
		}
		if left > 0 {
			c.t.Errorf("%d of %d blocks are still in the store of %s after garbage collection", left, len(blocks), p.name)
		}
	}
}

// multihashes forgets version and codec of CIDs, which a store does not keep.
func multihashes(t *testing.T, cids map[string]bool) map[string]bool {
	t.Helper()
	out := make(map[string]bool, len(cids))
	for text := range cids {
		c, err := api.DecodeCid(text)
		if err != nil {
			t.Fatal(err)
		}
		out[string(c.Hash())] = true
	}
	return out
}

// isEmptyFolder says whether a block is that of a folder without entries: the
// root of every node's own files is one, and stays.
func isEmptyFolder(hash string) bool {
	c, err := api.DecodeCid("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
	return err == nil && string(c.Hash()) == hash
}

func names(peers []*testPeer) string {
	var out []string
	for _, p := range peers {
		out = append(out, p.name)
	}
	return strings.Join(out, ", ")
}
