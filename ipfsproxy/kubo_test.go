package ipfsproxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ipfs/boxo/files"
	"github.com/ipfs/boxo/path"
	"github.com/ipfs/kubo/client/rpc"
	oldcmds "github.com/ipfs/kubo/commands"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/coreapi"
	"github.com/ipfs/kubo/core/corehttp"
	coreiface "github.com/ipfs/kubo/core/coreiface"
	"github.com/ipfs/kubo/core/coreiface/options"

	"holdfast/api"
)

// kuboNode is an IPFS node in memory with its own handler.
type kuboNode struct {
	api     coreiface.CoreAPI
	handler http.Handler
}

func newKubo(t *testing.T) kuboNode {
	t.Helper()
	node, err := core.NewNode(t.Context(), &core.BuildCfg{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Close() })
	kubo, err := coreapi.NewCoreAPI(node)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // for its address only
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	commands := oldcmds.Context{ReqLog: &oldcmds.ReqLog{}, ConstructNode: func() (*core.IpfsNode, error) { return node, nil }}
	handler, err := corehttp.MakeHandler(node, listener, corehttp.CommandsOption(commands))
	if err != nil {
		t.Fatal(err)
	}
	return kuboNode{kubo, handler}
}

// kuboAdder adds with a node of Kubo, so that answers can be compared.
type kuboAdder struct{ kubo coreiface.CoreAPI }

func (k kuboAdder) Add(ctx context.Context, upload *multipart.Reader, params api.AddParams, emit func(api.AddedOutput) error) error {
	top, err := files.NewFileFromPartReader(upload, "multipart/form-data")
	if err != nil {
		return err
	}
	if params.Wrap {
		top = files.NewSliceDirectory([]files.DirEntry{files.FileEntry("", top)})
	}
	entries := top.Entries()
	for entries.Next() {
		events := make(chan any, 1<<10)
		_, err := k.kubo.Unixfs().Add(ctx, entries.Node(), options.Unixfs.CidVersion(params.CidVersion), options.Unixfs.RawLeaves(params.RawLeaves),
			options.Unixfs.Progress(params.Progress), options.Unixfs.Events(events))
		if err != nil {
			return err
		}
		close(events)
		for event := range events {
			e := event.(*coreiface.AddEvent)
			out := api.AddedOutput{Name: entries.Name(), Bytes: uint64(e.Bytes), Mode: entries.Node().Mode(), Mtime: entries.Node().ModTime()}
			if _, folder := entries.Node().(files.Directory); folder {
				out.Name = strings.Trim(entries.Name()+"/"+e.Name, "/")
			}
			if e.Path != (path.ImmutablePath{}) {
				out.Cid = api.NewCid(e.Path.RootCid())
				out.Size, _ = strconv.ParseUint(e.Size, 10, 64)
			}
			if err := emit(out); err != nil {
				return err
			}
		}
	}
	return entries.Err()
}

// reply is what a client sees of an answer.
type reply struct {
	status  int
	header  http.Header
	body    string
	trailer http.Header
}

func (r reply) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d\n", r.status)
	for _, name := range slices.Sorted(maps.Keys(r.header)) {
		fmt.Fprintf(&out, "%s: %q\n", name, r.header[name])
	}
	fmt.Fprintf(&out, "%s\ntrailer %v", r.body, r.trailer)
	return out.String()
}

func ask(t *testing.T, server *httptest.Server, method, target string, header http.Header, tree func() files.Directory) reply {
	t.Helper()
	var body io.Reader
	if tree != nil {
		form := files.NewMultiFileReader(tree(), true, false)
		all, err := io.ReadAll(form)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(all)
		header = maps.Clone(header)
		if header == nil {
			header = http.Header{}
		}
		header.Set("Content-Type", "multipart/form-data; boundary="+form.Boundary())
	}
	req, err := http.NewRequestWithContext(t.Context(), method, server.URL+target, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Header.Del("Date")
	// When a refusal closes the connection, and whether it tells its length,
	// depends on how much of the upload the server has read by then.
	if resp.StatusCode >= 400 {
		resp.Header.Del("Content-Length")
	}
	if resp.Close && resp.StatusCode < 400 {
		resp.Header.Set("Connection", "close") // where the client hides it
	}
	return reply{resp.StatusCode, resp.Header, string(text), resp.Trailer}
}

const (
	emptyDir  = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
	emptyFile = "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"
)

// TestSameAsKubo sends the same requests, in order, to a node of Kubo and to a
// proxy in front of another, and compares the whole answers.
func TestSameAsKubo(t *testing.T) {
	alone, behind := newKubo(t), newKubo(t)
	cluster := newCluster()
	cluster.resolve = func(ctx context.Context, text string) (api.Cid, error) {
		p, err := path.NewPath(text)
		if err != nil {
			return api.Cid{}, err
		}
		found, _, err := behind.api.ResolvePath(ctx, p)
		if err != nil {
			return api.Cid{}, err
		}
		return api.NewCid(found.RootCid()), nil
	}
	kubo := httptest.NewServer(alone.handler)
	defer kubo.Close()
	proxy := httptest.NewServer(New(Deps{Service: cluster, Adder: kuboAdder{behind.api}, Node: behind.handler, Lease: cluster.lease}, Config{}))
	defer proxy.Close()
	tree := func() files.Directory {
		return files.NewMapDirectory(map[string]files.Node{"d": files.NewMapDirectory(map[string]files.Node{
			"empty": files.NewBytesFile(nil), "f": files.NewBytesFile([]byte("hello\n"))})})
	}
	lines := one(emptyDir + "\n" + emptyFile + "\r\n")
	for _, c := range []struct {
		method, target string
		header         http.Header
		tree           func() files.Directory
		late           bool // Kubo tells of an error in the trailer, the proxy by the status
	}{
		{target: "/api/v0/add?progress=true", tree: tree},
		{target: "/api/v0/add?wrap-with-directory=true&cid-version=1", tree: tree},
		{target: "/api/v0/add?pin=false", tree: tree},
		{target: "/api/v0/add?cid-base=base32", tree: tree},
		{target: "/api/v0/add"},
		{target: "/api/v0/add?progress=maybe", tree: tree},
		{target: "/api/v0/add?pin=false&pin-name=x", tree: tree},
		{target: "/api/v0/add?hash=blake3&cid-version=0", tree: tree},
		{target: "/api/v0/pin/rm?arg=" + emptyFile},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&encoding=json&stream-channels=true"},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&arg=/ipfs/" + emptyDir},
		{target: "/api/v0/pin/add/" + emptyFile},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&name=mine"},
		{target: "/api/v0/pin/ls?name=min&stream=true"},
		{target: "/api/v0/pin/ls?name=min"},
		{target: "/api/v0/pin/ls?name=min&encoding=text"},
		{target: "/api/v0/pin/ls?name=min&encoding=text&quiet=true&stream=true"},
		{target: "/api/v0/pin/ls?arg=" + emptyFile + "&names=true"},
		{target: "/api/v0/pin/add?arg=ipfs://" + emptyFile + "&cid-base=base32"},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&encoding=text"},
		{target: "/api/v0/pin/add", tree: lines},
		{target: "/api/v0/pin/add"},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&recursive=sometimes"},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&recursive="},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&r=true&recursive=true&recursive=false"},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&cid-base=base7"},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&name=" + strings.Repeat("n", 256)},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&encoding=yaml"},
		{target: "/api/v0/pin/ls?arg=" + emptyFile},
		{target: "/api/v0/pin/ls?arg=" + emptyFile + "&stream=true&names=true"},
		{target: "/api/v0/pin/ls?arg=" + emptyFile + "&type=recursive"},
		{target: "/api/v0/pin/ls?arg=" + emptyFile + "&type=direct"},
		{target: "/api/v0/pin/ls?arg=" + emptyFile + "&type=round"},
		{target: "/api/v0/pin/ls?type=direct"},
		{target: "/api/v0/pin/ls?type=direct&stream=true"},
		{target: "/api/v0/pin/ls?name=min&stream=true"},
		{target: "/api/v0/pin/ls?name=min"},
		{target: "/api/v0/pin/ls?name=min&encoding=text"},
		{target: "/api/v0/pin/ls?name=min&encoding=text&quiet=true&stream=true"},
		{target: "/api/v0/pin/ls?arg=" + emptyFile + "&arg=bafkqaaa&s=true", late: true},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&recursive=false"},
		{target: "/api/v0/pin/rm?arg=" + emptyFile + "&recursive=false"},
		{target: "/api/v0/pin/update?arg=" + emptyFile},
		{target: "/api/v0/pin/update?arg=" + emptyFile + "&arg=" + emptyFile},
		{target: "/api/v0/pin/update?arg=bafkqaaa&arg=" + emptyFile},
		{target: "/api/v0/pin/rm?arg=" + emptyFile + "&arg=" + emptyDir},
		{target: "/api/v0/pin/rm?arg=" + emptyFile},
		{target: "/api/v0/pin/rm"},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&recursive=false"},
		{target: "/api/v0/pin/add?arg=" + emptyFile + "&recursive=false&encoding=text"},
		{target: "/api/v0/pin/ls?arg=" + emptyFile},
		{target: "/api/v0/pin/rm?arg=" + emptyFile + "&recursive=false"},
		{target: "/api/v0/pin/ls?type=direct", header: http.Header{"Origin": {"http://example.com"}}},
		{target: "/api/v0/pin/ls?type=direct", header: http.Header{"Referer": {"http://example.com/x"}}},
		{target: "/api/v0/pin/ls?type=direct", header: http.Header{"User-Agent": {"Mozilla/5.0"}}},
		{target: "/api/v0/pin/ls?type=direct", header: http.Header{"Origin": {"chrome-extension://nibjojkomfdiaoajekhjakgkdhaomnch"}}},
		{method: http.MethodGet, target: "/api/v0/pin/ls"},
		{method: http.MethodOptions, target: "/api/v0/pin/ls"},
		{target: "/api/v0/block/put?pin=true", tree: one("any bytes")},
		{target: "/api/v0/block/put?pin=true&mhtype=nonsense", tree: lines},
		{target: "/api/v0/dag/put?pin=true", tree: one(`{"a":[1,2]}`)},
		{target: "/api/v0/dag/put?pin=true", tree: one(`{"a":`)},
		{target: "/api/v0/block/put?pin=perhaps", tree: lines},
		{target: "/api/v0/dag/put?pin=true&pin=false", tree: one("{}")},
		{target: "/api/v0/dag/import?local-only=true&pin-roots=true", tree: lines},
		{target: "/api/v0/cat/" + emptyFile},
		{target: "/api/v0/cat/"},
		{target: "/api/v0/add/x/y"},
		{target: "/api/v0/Pin/ls"},
		{method: http.MethodHead, target: "/api/v0/nonsense"},
		{method: http.MethodPut, target: "/api/v0/shutdown"},
		{target: "/api/v0/dag/put?pin=false", tree: one(`{"b":[1,2]}`)},
		{target: "/api/v0/dag/import"},
		{target: "/api/v0/version"},
		{target: "/api/v0/cat?arg=/ipfs/" + emptyFile},
		{target: "/api/v0/nonsense"},
		{target: "/api/v0/pin"},
		{target: "/"},
	} {
		if c.method == "" {
			c.method = http.MethodPost
		}
		t.Run(c.method+" "+c.target, func(t *testing.T) {
			want := ask(t, kubo, c.method, c.target, c.header, c.tree)
			got := ask(t, proxy, c.method, c.target, c.header, c.tree)
			if c.late {
				if text := want.trailer.Get(streamError); text == "" || got.status != 500 || !strings.Contains(got.body, text) {
					t.Errorf("got\n%s\nwant the error of\n%s", got, want)
				}
				return
			}
			if got.String() != want.String() {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// one is an upload of one file.
func one(text string) func() files.Directory {
	return func() files.Directory {
		return files.NewMapDirectory(map[string]files.Node{"x": files.NewBytesFile([]byte(text))})
	}
}

// TestClientOfKubo uses Kubo's own Go client against the proxy.
func TestClientOfKubo(t *testing.T) {
	behind, cluster := newKubo(t), newCluster()
	server := httptest.NewServer(New(Deps{Service: cluster, Adder: kuboAdder{behind.api}, Node: behind.handler, Lease: cluster.lease}, Config{}))
	defer server.Close()
	client, err := rpc.NewURLApiWithClient(server.URL, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	root, err := client.Unixfs().Add(t.Context(), files.NewBytesFile([]byte("one")))
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Pin().Add(t.Context(), root, options.Pin.Name("n")); err != nil {
		t.Fatal(err)
	}
	if _, pinned, err := client.Pin().IsPinned(t.Context(), root); err != nil || !pinned {
		t.Errorf("pinned %v, %v", pinned, err)
	}
	pins := make(chan coreiface.Pin, 8)
	if err := client.Pin().Ls(t.Context(), pins, options.Pin.Ls.Detailed(true)); err != nil {
		t.Fatal(err)
	}
	if pin := <-pins; pin.Name() != "n" || pin.Path().RootCid() != root.RootCid() {
		t.Errorf("pin %v %q", pin.Path(), pin.Name())
	}
	got, err := client.Unixfs().Get(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(files.ToFile(got)); err != nil || string(data) != "one" {
		t.Errorf("%q, %v", data, err)
	}
	if err := client.Pin().Rm(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	if err := client.Pin().Rm(t.Context(), root); err == nil || err.Error() != "not pinned or pinned indirectly" {
		t.Error(err)
	}
	if _, pinned, err := client.Pin().IsPinned(t.Context(), root); err != nil || pinned {
		t.Errorf("pinned %v, %v", pinned, err)
	}
}
