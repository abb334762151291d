//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/internal/drain"
	"holdfast/ipfsproxy"
	"holdfast/node"
)

// A proxied is one request whose answer the proxy does not make itself.
type proxied struct {
	method, target string // under /api/v0/
	header         string // one more, "Name: value"
	upload         string // content of a multipart body with one file; "": none
	body           string // a body as it is
}

// fixtures are what the routes below are about.
type fixtures struct{ file, folder, block, cbor, big string }

func post(target string) proxied { return proxied{method: "POST", target: target} }

// routes of the node that the cluster does not answer. Each may be asked twice
// with the same answer.
func routes(f fixtures) []proxied {
	var out []proxied
	for _, target := range []string{
		"id", "id?format=<id>", "id?peerid-base=base36", "id?arg=notapeer", "version", "version?all=true", "version/deps", "commands?flags=true",
		"cat?arg=" + f.file, "cat?arg=" + f.file + "&offset=2&length=3", "cat?arg=/ipfs/" + f.folder + "/a", "cat?arg=" + f.folder,
		"cat", "cat?arg=", "cat?arg=notacid", "cat?arg=/ipfs/notacid", "cat?arg=" + f.file + "/no/such", "cat?arg=" + f.file + "&offset=-1",
		"cat?arg=" + f.file + "&offset=x", "cat?arg=" + f.big, "cat?arg=" + f.file + "&arg=" + f.big, "cat/" + f.file, "cat?arg=" + f.file + "&nonsense=1",
		"get?arg=" + f.folder, "get?arg=" + f.file + "&archive=true", "get?arg=" + f.folder + "&compress=true&compression-level=9", "get?arg=" + f.big, "get",
		"ls?arg=" + f.folder, "ls?arg=" + f.folder + "&stream=true", "ls?arg=" + f.folder + "&size=false&resolve-type=false", "ls?arg=" + f.file, "ls?arg=notacid",
		"block/get?arg=" + f.block, "block/get?arg=" + f.file, "block/get?arg=notacid", "block/get", "block/stat?arg=" + f.block, "block/stat?arg=" + f.big,
		"block/stat?arg=bafkreigaknpexyvxt76zgkitavbwx6ejgfheup5oybpm77f3pxzrvwpfdi&offline=true",
		"block/get?arg=bafkreigaknpexyvxt76zgkitavbwx6ejgfheup5oybpm77f3pxzrvwpfdi&timeout=200ms", "block/get?arg=" + f.block + "&timeout=soon",
		"dag/get?arg=" + f.cbor, "dag/get?arg=" + f.cbor + "&output-codec=dag-cbor", "dag/get?arg=" + f.cbor + "/link", "dag/get?arg=" + f.folder,
		"dag/get?arg=" + f.cbor + "&output-codec=nonsense", "dag/stat?arg=" + f.folder + "&progress=false", "dag/stat?arg=" + f.folder, "dag/stat",
		"dag/export?arg=" + f.folder, "dag/export?arg=" + f.file, "dag/export?arg=" + f.folder + "&progress=false", "dag/resolve?arg=" + f.folder + "/a", "dag/export",
		"resolve?arg=/ipfs/" + f.folder + "/a", "resolve?arg=/ipns/example.invalid&timeout=200ms", "resolve",
		"refs?arg=" + f.folder, "refs?arg=" + f.big + "&recursive=true&unique=true", "refs?arg=" + f.folder + "&format=<src>-<dst>", "refs", "refs?arg=notacid",
		"refs?arg=" + f.folder + "&format=x&edges=true", "refs?arg=" + f.folder + "&recursive=true&max-depth=1", "refs/local",
		"files/ls", "files/ls?arg=/&long=true", "files/mkdir?arg=/proxied&parents=true", "files/stat?arg=/", "files/stat?arg=/proxied", "files/stat?arg=/none",
		"files/cp?arg=/ipfs/" + f.file + "&arg=/proxied/copy&force=true", "files/read?arg=/proxied/copy", "files/read?arg=/none", "files/flush?arg=/proxied",
		"files/rm?arg=/none", "files/rm?arg=/none&force=true", "files/chcid?arg=/proxied&cid-version=1", "files/ls?arg=relative",
		"key/list", "key/list?l=true", "key/gen", "key/rm?arg=none", "key/gen?arg=self", "name/resolve?arg=example.invalid&offline=true", "name/publish?arg=notacid",
		"config?arg=API", "config?arg=Datastore.Spec&arg={}&json=true", "shutdown/x", "p2p/listen?arg=/x/a&arg=/ip4/127.0.0.1/tcp/1", "bootstrap/rm/all", "swarm/filters/add?arg=/ip4/10.0.0.0/ipcidr/8",
		"swarm/peers", "swarm/peers?verbose=true", "swarm/addrs/local", "swarm/addrs/listen", "swarm/connect?arg=nonsense", "swarm/filters", "swarm/peering/ls",
		"swarm/connect?arg=/ip4/127.0.0.1/tcp/1/p2p/12D3KooWEwHpUvuCFaAkzi72it2UgiegkVkiBhPZyoZLvck7amTh&timeout=1s",
		"bootstrap/list", "bitswap/wantlist", "bitswap/ledger?arg=nonsense", "stats/bitswap", "stats/repo", "repo/version", "repo/ls", "repo/verify",
		"config?arg=Datastore.StorageMax", "config?arg=No.Such", "config/show", "cid/format?arg=" + f.file + "&v=1", "cid/format?arg=notacid", "cid/base32?arg=" + f.file,
		"cid/bases", "cid/codecs", "cid/hashes", "multibase/list", "diag/cmds/clear", "diag/sys?no=1", "log/ls", "log/level?arg=nosuch&arg=debug",
		"pin/verify", "pin/remote/ls?service=none", "pin/remote/service/ls", "routing/findprovs?arg=" + f.file + "&timeout=200ms", "routing/findpeer?arg=nonsense",
		"p2p/ls", "pubsub/ls", "mount", "shutdown", "update", "config/replace", "key/rotate", "repo/migrate",
		"", "nonsense", "files", "files/nonsense", "block/put/x/y", "Cat?arg=" + f.file, "cat/?arg=" + f.file, "id/x", "../v0/id", "%63at?arg=" + f.file, "cat?arg=%zz",
	} {
		out = append(out, post(target))
	}
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		for _, target := range []string{"id", "cat?arg=" + f.file, "pin/ls", "add", "shutdown", "nonsense"} {
			out = append(out, proxied{method: method, target: target})
		}
	}
	for _, target := range []string{"block/put", "block/put?cid-codec=dag-pb", "block/put?mhtype=sha2-512", "block/put?mhtype=nonsense", "block/put?format=v0", "block/put?mhlen=4",
		"dag/put", "dag/put?input-codec=raw&store-codec=raw", "dag/put?input-codec=nonsense", "dag/put?store-codec=dag-cbor&input-codec=dag-json",
		"files/write?arg=/proxied/written&create=true&truncate=true", "files/write?arg=/none/written", "files/write?arg=/proxied/written&offset=-1",
		"dag/import?pin-roots=false", "config/replace", "key/import?arg=bad", "cat?arg=" + f.file, "id"} {
		out = append(out, proxied{method: "POST", target: target, upload: `{"hello":"world"}`})
	}
	return append(out, headers(f)...)
}

// headers are requests in which more than the route matters.
func headers(f fixtures) []proxied {
	return []proxied{
		{method: "POST", target: "id", header: "Origin: http://evil.example"},
		{method: "POST", target: "id", header: "Referer: http://evil.example/page"},
		{method: "POST", target: "id", header: "User-Agent: Mozilla/5.0"},
		{method: "OPTIONS", target: "id", header: "Access-Control-Request-Method: POST"},
		{method: "POST", target: "cat?arg=" + f.file, header: "Range: bytes=1-2"},
		{method: "POST", target: "cat?arg=" + f.file, header: "Accept-Encoding: gzip"},
		{method: "POST", target: "cat?arg=" + f.file, header: "Connection: close"},
		{method: "POST", target: "block/get?arg=" + f.block, header: "Content-Type: text/plain", body: "ignored"},
		{method: "POST", target: "block/put", header: "Content-Type: text/plain", body: "not multipart"},
		{method: "POST", target: "block/put", header: "Content-Type: multipart/form-data", body: "no boundary"},
		{method: "POST", target: "block/put", header: "Content-Type: multipart/form-data; boundary=x", body: "--x\r\ncut off"},
		{method: "POST", target: "block/put", header: "Content-Type: multipart/form-data; boundary=x", body: "--x--\r\n"},
		{method: "POST", target: "files/write?arg=/proxied/cut&create=true", header: "Content-Type: multipart/form-data; boundary=x", body: "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\ncut"},
		{method: "POST", target: "cat", header: "Content-Type: multipart/form-data; boundary=x", body: "--x\r\nContent-Disposition: form-data; name=\"arg\"\r\n\r\n" + f.file + "\r\n--x--\r\n"},
		{method: "POST", target: "block/put"},
		{method: "POST", target: "dag/import?pin-roots=false"},
	}
}

// trailing finds an error in the trailer.
var trailing = regexp.MustCompile(`X-Stream-Error: \["(.+)"\]`)

// What the proxy does not answer itself is answered as by the node alone:
// same status, headers, body and trailers, but for errors after outputs.
func TestProxyEqualsNode(t *testing.T) {
	n := openNode(t, node.Config{Dir: t.TempDir(), SwarmListen: []string{loopback(freePort(t))}})
	direct := httptest.NewServer(drain.Handler(n.RPC()))
	defer direct.Close()
	proxy := httptest.NewServer(ipfsproxy.New(ipfsproxy.Deps{Service: noCluster{t}, Adder: noCluster{t}, Node: n.RPC(), Lease: n.Lease}, ipfsproxy.Config{}))
	defer proxy.Close()

	table := routes(fill(t, direct.URL))
	for _, route := range table {
		want, err := ask(t.Context(), direct.URL, route)
		if err != nil {
			t.Errorf("%s %s of the node: %v", route.method, route.target, err)
			continue
		}
		got, err := ask(t.Context(), proxy.URL, route)
		if err != nil {
			t.Errorf("%s %s of the proxy: %v", route.method, route.target, err)
		} else if text := trailing.FindStringSubmatch(want); text != nil {
			// Not every client sees trailers: the proxy cuts such an answer off,
			// after the message where outputs are JSON.
			if !strings.Contains(got, "read unexpected EOF") || strings.Contains(want, "application/json") && !strings.Contains(got, text[1]) {
				t.Errorf("%s %s is taken for a success\n%.2000s", route.method, route.target, got)
			}
		} else if got != want {
			t.Errorf("%s %s %s\n--- node\n%.2000s\n--- proxy\n%.2000s", route.method, route.target, route.header, want, got)
		}
	}
	t.Logf("%d requests", len(table))
}

func openNode(t *testing.T, config node.Config) *node.Node {
	t.Helper()
	n, err := node.New(config, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node ended with %v", err)
		}
	})
	select {
	case <-n.Ready():
	case err := <-ended:
		ended <- err
		t.Fatal(err)
	case <-time.After(startTime):
		t.Fatal("the node is not ready")
	}
	return n
}

// fill puts what the routes are about into the node.
func fill(t *testing.T, base string) fixtures {
	t.Helper()
	put := func(target, content string) string {
		answer, err := ask(t.Context(), base, proxied{method: "POST", target: target, upload: content})
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`"(?:Hash|Key|/)":"([a-zA-Z0-9]+)"`).FindAllStringSubmatch(answer, -1)
		if len(found) == 0 {
			t.Fatalf("%s: %s", target, answer)
		}
		return found[len(found)-1][1]
	}
	file := func(path, content string) string {
		if _, err := ask(t.Context(), base, proxied{method: "POST", target: "files/write?create=true&arg=" + path, upload: content}); err != nil {
			t.Fatal(err)
		}
		return put("files/stat?arg="+path, "")
	}
	f := fixtures{file: file("/file", "text of a file"), block: put("block/put", "a block"), big: file("/big", strings.Repeat("0123456789abcdef", 1<<16))}
	f.cbor = put("dag/put", fmt.Sprintf(`{"link":{"/":"%s"},"n":1}`, f.file))
	f.folder = put("dag/put?store-codec=dag-pb", fmt.Sprintf(`{"Data":{"/":{"bytes":"CAE"}},"Links":[{"Hash":{"/":"%s"},"Name":"a","Tsize":22},{"Hash":{"/":"%s"},"Name":"big","Tsize":1048832}]}`, f.file, f.big))
	return f
}

// ask sends a request and writes down all that a client can see of the answer.
func ask(ctx context.Context, base string, route proxied) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	body, kind := io.Reader(strings.NewReader(route.body)), ""
	if route.upload != "" {
		body, kind = upload(route.upload)
	}
	request, err := http.NewRequestWithContext(ctx, route.method, base+"/api/v0/"+route.target, body)
	if err != nil {
		// A target that Go's client refuses is not sent.
		return "not sent", nil
	}
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	if name, value, ok := strings.Cut(route.header, ": "); ok {
		request.Header.Set(name, value)
	}
	response, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: route.header == "Connection: close"}).RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s length %d %v read %v\n", response.Proto, response.Status, response.ContentLength, response.TransferEncoding, err)
	response.Header.Del("Date")
	for _, header := range []http.Header{response.Header, response.Trailer} {
		for _, name := range slices.Sorted(maps.Keys(header)) {
			fmt.Fprintf(&out, "%s: %q\n", name, header[name])
		}
		fmt.Fprintln(&out)
	}
	out.WriteString(settle(route.target, string(text)))
	return out.String(), nil
}

func upload(content string) (io.Reader, string) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "file")
	if err == nil {
		_, err = io.WriteString(part, content)
	}
	if err = errors.Join(err, form.Close()); err != nil {
		return iotestErr{err}, ""
	}
	return &body, form.FormDataContentType()
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

// volatile is what changes from one answer to the next of the same node.
var volatile = regexp.MustCompile(`"(RepoSize|DiskFree|free|used|Time|diskinfo|memory|runtime)":[^,}]*`)

// settle takes out what the time of the question changes, and the order where
// there is none.
func settle(target, text string) string {
	switch route, _, _ := strings.Cut(target, "?"); route {
	case "refs/local", "repo/ls", "repo/verify", "pin/verify", "swarm/addrs/local", "commands", "cid/bases", "cid/hashes", "cid/codecs", "multibase/list", "log/ls":
		letters := []byte(text)
		slices.Sort(letters)
		return string(letters)
	case "stats/repo":
		return volatile.ReplaceAllString(text, "")
	case "get":
		return contents(text)
	}
	return text
}

// contents lists what is in an archive, but not when it was made.
func contents(text string) string {
	stream := io.Reader(strings.NewReader(text))
	if unpacked, err := gzip.NewReader(stream); err == nil {
		stream = unpacked
	} else {
		stream = strings.NewReader(text)
	}
	var out strings.Builder
	for archive := tar.NewReader(stream); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if err != nil {
			return text
		}
		data, err := io.ReadAll(archive)
		fmt.Fprintf(&out, "%s %d %o %c %x %v\n", header.Name, header.Size, header.Mode, header.Typeflag, sha256.Sum256(data), err)
	}
}

// noCluster fails a test whose request reaches the cluster.
type noCluster struct{ t *testing.T }

func (c noCluster) reached(what string) error {
	c.t.Errorf("%s reached the cluster", what)
	return errors.New("not here")
}

func (c noCluster) Pin(context.Context, api.PinRequest) (api.PinResult, error) {
	return api.PinResult{}, c.reached("a pin")
}

func (c noCluster) Unpin(context.Context, api.UnpinRequest) (api.PinResult, error) {
	return api.PinResult{}, c.reached("an unpin")
}

func (c noCluster) Resolve(context.Context, string) (api.Cid, error) {
	return api.Cid{}, c.reached("a resolve")
}

func (c noCluster) ReadAt(context.Context, api.ReadPoint) (uint64, error) {
	return 0, c.reached("a read")
}

func (c noCluster) Allocation(context.Context, api.Cid) (api.Pin, error) {
	return api.Pin{}, c.reached("a look-up")
}

func (c noCluster) Allocations(context.Context, api.PinFilter) iter.Seq2[api.Pin, error] {
	return func(yield func(api.Pin, error) bool) { yield(api.Pin{}, c.reached("a listing")) }
}

func (c noCluster) RepoStat(context.Context) (api.RepoStat, error) {
	return api.RepoStat{}, c.reached("repo stat")
}

func (c noCluster) RepoGC(context.Context, bool) (api.GlobalRepoGC, error) {
	return api.GlobalRepoGC{}, c.reached("repo gc")
}

func (c noCluster) Add(context.Context, *multipart.Reader, api.AddParams, func(api.AddedOutput) error) error {
	return c.reached("an add")
}
