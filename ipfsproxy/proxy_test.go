package ipfsproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/internal/kuborpc"
)

// node is the handler behind a proxy: it notes what reaches it.
type node struct {
	seen   []string
	answer func(w http.ResponseWriter, r *http.Request)
}

func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Origin")
	w.Header().Set("Server", "node")
	if r.URL.Path == "/api/v0/version" && r.Header.Get("Test") == "" {
		_, _ = io.WriteString(w, "{}") // asked by the proxy itself
		return
	}
	body, err := io.ReadAll(r.Body)
	n.seen = append(n.seen, fmt.Sprintf("%s %s %s %v %v", r.Method, r.URL, body, r.Header["Test"], err))
	if n.answer != nil {
		n.answer(w, r)
	}
}

// scripted is an Adder that says what a test wants.
type scripted struct {
	params api.AddParams
	out    []api.AddedOutput
	err    error
}

func (s *scripted) Add(_ context.Context, upload *multipart.Reader, params api.AddParams, emit func(api.AddedOutput) error) error {
	s.params = params
	for {
		part, err := upload.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, part); err != nil {
			return err
		}
	}
	for _, out := range s.out {
		if err := emit(out); err != nil {
			return err
		}
	}
	return s.err
}

type setup struct {
	node    *node
	adder   *scripted
	cluster *cluster
	server  *httptest.Server
}

func newSetup(t *testing.T) setup {
	s := setup{node: &node{}, adder: &scripted{}, cluster: newCluster()}
	s.server = httptest.NewServer(New(Deps{Service: s.cluster, Adder: s.adder, Node: s.node, Lease: s.cluster.lease}, Config{Self: "self"}))
	t.Cleanup(s.server.Close)
	return s
}

func (s setup) post(t *testing.T, target string) reply {
	t.Helper()
	return ask(t, s.server, http.MethodPost, target, nil, nil)
}

func (s setup) upload(t *testing.T, target string) reply {
	t.Helper()
	return ask(t, s.server, http.MethodPost, target, nil, one("text"))
}

// TestPassThrough checks that what is the node's reaches it in canonical form,
// and that its answer comes back as it is.
func TestPassThrough(t *testing.T) {
	for _, c := range []struct{ method, target, seen string }{
		{"POST", "/api/v0/cat?arg=a&arg=b&x=%20y", "/api/v0/cat?arg=a&arg=b&x=+y"},
		{"POST", "/api/v0/cat/a%2Fb", ""},
		{"POST", "/api/v0/cat/a?arg=b", "/api/v0/cat?arg=a&arg=b"},
		{"POST", "/api/v0/version", "/api/v0/version"},
		{"GET", "/api/v0/pin/add?arg=x", "/api/v0/version"},
		{"PUT", "/api/v0/add", "/api/v0/version"},
		{"OPTIONS", "/api/v0/pin/ls", "/api/v0/version"},
		{"DELETE", "/api/v0/pin/rm/x", "/api/v0/version"},
		{"HEAD", "/api/v0/shutdown", "/api/v0/version"},
		{"POST", "/api/v0/pin", "/api/v0/pin"},
		{"POST", "/api/v0/pin/verify", "/api/v0/pin/verify"},
		{"POST", "/api/v0/pin/remote/add?arg=x", "/api/v0/pin/remote/add?arg=x"},
		{"POST", "/api/v0/pin/add/a/b", ""},
		{"POST", "/api/v0/block/put", "/api/v0/block/put"},
		{"POST", "/api/v0/block/put?pin=false", "/api/v0/block/put?pin=false"},
		{"POST", "/api/v0/block/put/x?pin=false", "/api/v0/block/put?arg=x&pin=false"},
		{"POST", "/api/v0/dag/import?pin-roots=false", "/api/v0/dag/import?pin-roots=false"},
		{"POST", "/api/v0/dag/import?local-only=true", "/api/v0/dag/import?local-only=true"},
		{"POST", "/api/v0/config/show?config-file=/etc/x.json", "/api/v0/config/show"},
		{"POST", "/api/v1/pin/ls", ""},
		{"POST", "/webui", ""},
		{"GET", "/", ""},
	} {
		t.Run(c.method+" "+c.target, func(t *testing.T) {
			s := newSetup(t)
			s.node.answer = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Trailer", "X-Late")
				w.Header().Set("X-Chunked-Output", "7")
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, "short and stout")
				w.Header().Set("X-Late", "tea")
			}
			got := ask(t, s.server, c.method, c.target, http.Header{"Test": {"1", "2"}}, one("body"))
			if len(s.cluster.requests) != 0 || s.adder.params.Format != "" {
				t.Error("the cluster did something")
			}
			if c.seen == "" {
				if got.status != http.StatusNotFound || len(s.node.seen) != 0 {
					t.Errorf("answer %s\nthe node saw %q", got, s.node.seen)
				}
				return
			}
			if len(s.node.seen) != 1 || !strings.HasPrefix(s.node.seen[0], c.method+" "+c.seen+" ") || !strings.Contains(s.node.seen[0], "body") || !strings.HasSuffix(s.node.seen[0], "[1 2] <nil>") {
				t.Errorf("the node saw %q", s.node.seen)
			}
			if c.method == "HEAD" {
				return
			}
			if got.status != http.StatusTeapot || got.body != "short and stout" || got.header.Get("X-Chunked-Output") != "7" || got.trailer.Get("X-Late") != "tea" {
				t.Errorf("answer %s", got)
			}
		})
	}
}

// TestOnlyTheNodesOwn sends each command of Kubo's in many spellings. Those of
// the cluster and those that are refused never reach the node, not even with
// an argument in the path.
func TestOnlyTheNodesOwn(t *testing.T) {
	cluster := newCluster()
	var reached []string
	p := New(Deps{Service: cluster, Adder: &scripted{}, Lease: cluster.lease, Node: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Test") != "" { // not the proxy's own question
			reached = append(reached, r.URL.String())
		}
	})}, Config{})
	for _, name := range kuborpc.Names() {
		for _, spelling := range []string{"%s", "%s/x", "%s/", "%s//x", "%s/x/y", "%s%%2Fx", "%s%%252Fx", "%s/%%2e%%2e", "%s/.", "./%s", "/%s", "%%2F%s", "../v0/%s", "%s?pin=true&arg=x&arg=y",
			"%s/x?pin=true&pin-roots=true&arg=y", "%s?pin", "%s?pin=perhaps", "%s?pin=true&pin=false", "%s?drop=true&heal=true&remove-bad-blocks=true"} {
			target := fmt.Sprintf("/api/v0/"+spelling, name)
			for _, method := range []string{"POST", "GET", "PUT", "HEAD", "OPTIONS"} {
				for _, target := range []string{target, strings.Replace(target, name, strings.ToUpper(name), 1), strings.Replace(target, name, strings.ReplaceAll(name, "/", "%2F"), 1)} {
					reached = nil
					r := httptest.NewRequest(method, "http://peer"+target, strings.NewReader("--b\r\nContent-Disposition: form-data; filename=x\r\n\r\ntext\r\n--b--\r\n"))
					r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
					r.Header.Set("Test", "1")
					call, ok := kuborpc.Resolve(r)
					w := httptest.NewRecorder()
					p.ServeHTTP(w, r)
					switch {
					case method != "POST":
						if len(reached) != 1 || reached[0] != "/api/v0/version" {
							t.Errorf("%s %s reaches the node as %q", method, target, reached)
						}
					case !ok && (w.Code != http.StatusNotFound || len(reached) > 0):
						t.Errorf("%s: %d, reaches the node as %q", target, w.Code, reached)
					case ok && call.By == kuborpc.Refused && (w.Code != http.StatusForbidden || !strings.Contains(w.Body.String(), call.Name+": ") || len(reached) > 0):
						t.Errorf("%s: %d %s, reaches the node as %q", target, w.Code, w.Body, reached)
					case ok && call.By == kuborpc.Node && (len(reached) != 1 || !strings.HasPrefix(reached[0]+"?", "/api/v0/"+call.Name+"?")):
						t.Errorf("%s reaches the node as %q", target, reached)
					case ok && call.By == kuborpc.Cluster:
						for _, url := range reached {
							if !strings.Contains(url, "pin=false") { // a put that the cluster pins
								t.Errorf("%s reaches the node as %q", target, reached)
							}
						}
					}
				}
			}
		}
	}
	for _, target := range []string{"shutdown/x", "mount/x", "config/replace/x", "p2p/listen?arg=/x/a&arg=/ip4/127.0.0.1/tcp/9094", "config?arg=Datastore.Spec&arg={}&json=true", "config/profile/apply/badgerds", "bootstrap/rm/all"} {
		r := httptest.NewRequest(http.MethodPost, "http://peer/api/v0/"+target, nil)
		w := httptest.NewRecorder()
		if p.ServeHTTP(w, r); w.Code != http.StatusForbidden {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}

// TestRoutesAreTheClusters compares the routes with the table of commands.
func TestRoutesAreTheClusters(t *testing.T) {
	for _, name := range kuborpc.Names() {
		r := httptest.NewRequest(http.MethodPost, "/api/v0/"+name+"?pin=true", nil)
		call, ok := kuborpc.Resolve(r)
		if _, routed := routes[name]; routed != (ok && call.By == kuborpc.Cluster) {
			t.Errorf("%s: a route: %v, the cluster's: %v", name, routed, call.By == kuborpc.Cluster)
		}
	}
}

// TestBodiesStream checks that a body reaches the node while it is still sent,
// and an answer the client while it is still written.
func TestBodiesStream(t *testing.T) {
	s := newSetup(t)
	first := make(chan struct{})
	s.server.Config.Handler = New(Deps{Service: s.cluster, Adder: s.adder, Lease: s.cluster.lease, Node: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if err := errors.Join(control.EnableFullDuplex(), func() error { _, err := io.ReadFull(r.Body, make([]byte, 3)); return err }()); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, "got")
		if err := control.Flush(); err != nil {
			t.Error(err)
		}
		<-first
		_, _ = io.Copy(w, r.Body)
	})}, Config{})
	read, write := io.Pipe()
	go func() { _, _ = io.WriteString(write, "one") }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.server.URL+"/api/v0/files/write", read)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, 3)
	if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "got" {
		t.Fatalf("%q, %v", buf, err)
	}
	close(first)
	go func() {
		_, _ = io.WriteString(write, "two")
		_ = write.Close()
	}()
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "two" {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestPinOptions(t *testing.T) {
	for query, want := range map[string]func(api.PinRequest) bool{
		"":                 func(r api.PinRequest) bool { return r.Options.Mode == api.ModeRecursive && r.Options.Name == "" },
		"&recursive=false": func(r api.PinRequest) bool { return r.Options.Mode == api.ModeDirect },
		"&r=false":         func(r api.PinRequest) bool { return r.Options.Mode == api.ModeDirect },
		"&type=direct":     func(r api.PinRequest) bool { return r.Options.Mode == api.ModeDirect },
		"&name=x":          func(r api.PinRequest) bool { return r.Options.Name == "x" },
		"&replication=2": func(r api.PinRequest) bool {
			return r.Options.ReplicationFactorMin == 2 && r.Options.ReplicationFactorMax == 2
		},
		"&replication-min=1&expire-in=24h": func(r api.PinRequest) bool {
			return r.Options.ReplicationFactorMin == 1 && !r.Options.ExpireAt.IsZero()
		},
		"&meta-a=b": func(r api.PinRequest) bool { return r.Options.Metadata["a"] == "b" },
	} {
		t.Run(query, func(t *testing.T) {
			s := newSetup(t)
			got := s.post(t, "/api/v0/pin/add?arg="+emptyDir+query)
			if got.status != 200 || len(s.cluster.requests) != 1 || !want(s.cluster.requests[0]) {
				t.Errorf("%s\npinned %+v", got, s.cluster.requests)
			}
		})
	}
	for _, query := range []string{"&replication=many", "&replication-min=3&replication-max=2", "&expire-in=1ms", "&expire-at=yesterday", "&user-allocations=me", "&origins=here"} {
		t.Run(query, func(t *testing.T) {
			s := newSetup(t)
			if got := s.post(t, "/api/v0/pin/add?arg="+emptyDir+query); got.status != 500 || len(s.cluster.requests) != 0 {
				t.Errorf("%s\npinned %+v", got, s.cluster.requests)
			}
		})
	}
}

func TestAddParams(t *testing.T) {
	for query, want := range map[string]func(api.AddParams) bool{
		"":                               func(p api.AddParams) bool { return !p.NoPin && !p.OnlyHash && p.CidVersion == 0 && !p.RawLeaves },
		"only-hash=true":                 func(p api.AddParams) bool { return p.OnlyHash && p.NoPin },
		"n=true":                         func(p api.AddParams) bool { return p.OnlyHash },
		"pin=false":                      func(p api.AddParams) bool { return p.NoPin && !p.OnlyHash },
		"no-pin=true":                    func(p api.AddParams) bool { return p.NoPin },
		"pin-name=x":                     func(p api.AddParams) bool { return p.Name == "x" },
		"cid-version=1":                  func(p api.AddParams) bool { return p.CidVersion == 1 && p.RawLeaves },
		"cid-version=1&raw-leaves=false": func(p api.AddParams) bool { return p.CidVersion == 1 && !p.RawLeaves },
		"hash=blake3":                    func(p api.AddParams) bool { return p.CidVersion == 1 && p.RawLeaves && p.HashFun == "blake3" },
		"trickle=true":                   func(p api.AddParams) bool { return p.Layout == "trickle" },
		"layout=trickle":                 func(p api.AddParams) bool { return p.Layout == "trickle" },
		"s=size-1000&w=true":             func(p api.AddParams) bool { return p.Chunker == "size-1000" && p.Wrap },
		"local=true&progress=true&replication=-1": func(p api.AddParams) bool { return p.Local && p.Progress && p.ReplicationFactorMin == api.Everywhere },
		"mode=direct": func(p api.AddParams) bool { return p.Mode == api.ModeDirect },
		"inline=false&inline-limit=32&fscache=false&empty-dirs=true&max-file-links=174&mode=0": func(p api.AddParams) bool { return true },
	} {
		t.Run(query, func(t *testing.T) {
			s := newSetup(t)
			if got := s.upload(t, "/api/v0/add?"+query); got.status != 200 || !want(s.adder.params) {
				t.Errorf("%s\nadded with %+v", got, s.adder.params)
			}
		})
	}
	for _, query := range []string{"nocopy=true", "fscache=true", "inline=true", "to-files=/x", "preserve-mode=true", "preserve-mtime=true", "mode=0644", "mtime=5",
		"max-file-links=10", "max-hamt-fanout=8", "shard=true", "empty-dirs=false"} {
		t.Run(query, func(t *testing.T) {
			s := newSetup(t)
			got := s.upload(t, "/api/v0/add?"+query)
			name, _, _ := strings.Cut(query, "=")
			if got.status != 400 || !strings.Contains(got.body, `"Code":1,"Type":"error"`) || !strings.Contains(got.body, name) || s.adder.params.Format != "" {
				t.Errorf("%s", got)
			}
		})
	}
}

func TestArgumentsInPath(t *testing.T) {
	for _, target := range []string{"/api/v0/add/x", "/api/v0/add/", "/api/v0/dag/import/x", "/api/v0/dag/import/x?pin-roots=perhaps&pin-roots=false"} {
		s := newSetup(t)
		s.adder.params.Format = "none"
		if got := s.upload(t, target); len(s.node.seen) != 0 || got.status == 200 && s.adder.params.Format == "none" {
			t.Errorf("%s: %s\nthe node saw %q", target, got, s.node.seen)
		}
	}
}

func TestAddFails(t *testing.T) {
	full := api.Errorf(api.CodeNoSpace, "the disk is full")
	t.Run("before an output", func(t *testing.T) {
		s := newSetup(t)
		s.adder.err = full
		if got := s.upload(t, "/api/v0/add"); got.status != 500 || got.body != `{"Message":"the disk is full","Code":0,"Type":"error"}`+"\n" {
			t.Errorf("%s", got)
		}
	})
	t.Run("after an output", func(t *testing.T) {
		s := newSetup(t)
		s.adder.out, s.adder.err = []api.AddedOutput{{Name: "f", Bytes: 5}}, full
		if got := s.upload(t, "/api/v0/add"); got.status != 500 || got.body != `{"Message":"the disk is full","Code":0,"Type":"error"}`+"\n" {
			t.Errorf("%s", got)
		}
	})
	t.Run("silent", func(t *testing.T) {
		s := newSetup(t)
		s.adder.out = []api.AddedOutput{{Name: "f", Bytes: 5}}
		if got := s.upload(t, "/api/v0/add?silent=true"); got.status != 200 || got.body != "" {
			t.Errorf("%s", got)
		}
	})
}

func TestPut(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", streamError)
		w.Header().Set("X-Chunked-Output", "1")
		fmt.Fprintf(w, "{\"Key\":%q,\"Size\":1}\n{\"Key\":%q,\"Size\":2}\n", emptyDir, emptyFile)
	}
	t.Run("pins in the cluster, not in the node", func(t *testing.T) {
		s := newSetup(t)
		s.node.answer = answer
		got := s.upload(t, "/api/v0/block/put?pin=true&mhtype=sha2-256")
		if got.status != 200 || strings.Count(got.body, "\n") != 2 || got.header.Get("X-Chunked-Output") != "1" {
			t.Errorf("%s", got)
		}
		if len(s.node.seen) != 1 || !strings.Contains(s.node.seen[0], "mhtype=sha2-256&pin=false") {
			t.Errorf("the node saw %q", s.node.seen)
		}
		if len(s.cluster.requests) != 2 || !slices.Equal(s.cluster.requests[0].Options.UserAllocations, []peer.ID{"self"}) || s.cluster.leases != 0 {
			t.Errorf("pinned %+v, %d leases", s.cluster.requests, s.cluster.leases)
		}
	})
	t.Run("tells when the pin fails", func(t *testing.T) {
		s := newSetup(t)
		s.node.answer, s.cluster.fail = answer, api.Errorf(api.CodeNoLeader, "no leader")
		if got := s.upload(t, "/api/v0/block/put?pin=true"); got.status != 500 || !strings.Contains(got.body, "no leader") {
			t.Errorf("%s", got)
		}
	})
	t.Run("passes a failure of the node on", func(t *testing.T) {
		s := newSetup(t)
		s.node.answer = func(w http.ResponseWriter, r *http.Request) {
			answer(w, r)
			w.Header().Set(streamError, "it broke")
		}
		if got := s.upload(t, "/api/v0/dag/put?pin"); got.status != 500 || !strings.Contains(got.body, "it broke") || len(s.cluster.requests) != 0 {
			t.Errorf("%s", got)
		}
	})
	t.Run("refuses an answer that it cannot read", func(t *testing.T) {
		s := newSetup(t)
		s.node.answer = func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "what?") }
		if got := s.upload(t, "/api/v0/dag/put?pin=true"); got.status != 500 || len(s.cluster.requests) != 0 {
			t.Errorf("%s", got)
		}
	})
}

func TestImport(t *testing.T) {
	s := newSetup(t)
	c, err := api.DecodeCid(emptyDir)
	if err != nil {
		t.Fatal(err)
	}
	s.adder.out = []api.AddedOutput{{Blocks: 3, Bytes: 70}, {Cid: c}}
	got := s.upload(t, "/api/v0/dag/import?stats=true&pin-roots=true")
	want := `{"Root":{"Cid":{"/":"` + emptyDir + `"},"PinErrorMsg":""}}` + "\n" + `{"Stats":{"BlockCount":3,"BlockBytesCount":70}}` + "\n"
	if got.status != 200 || got.body != want || s.adder.params.Format != "car" || !s.adder.params.ManyRoots {
		t.Errorf("%s\n%+v", got, s.adder.params)
	}
}

func TestRepo(t *testing.T) {
	s := newSetup(t)
	s.cluster.stat = api.RepoStat{RepoSize: 1, StorageMax: 2, NumObjects: 3}
	if got := s.post(t, "/api/v0/repo/stat"); got.body != `{"RepoSize":1,"StorageMax":2,"NumObjects":3,"RepoPath":"","Version":""}`+"\n" {
		t.Errorf("%s", got)
	}
	c, err := api.DecodeCid(emptyDir)
	if err != nil {
		t.Fatal(err)
	}
	s.cluster.gc = api.GlobalRepoGC{PeerMap: map[string]api.RepoGC{"a": {Keys: []api.RepoGCKey{{Key: c}, {Error: "bad block"}}}, "b": {Error: "down"}}}
	key := `{"Key":{"/":"` + emptyDir + `"}}` + "\n"
	if got := s.post(t, "/api/v0/repo/gc"); got.status != 500 || !strings.Contains(got.body, "bad block") || !strings.Contains(got.body, "down") {
		t.Errorf("%s", got)
	}
	got, err := raw(t, s.server, "POST /api/v0/repo/gc?stream-errors=true HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(got, key+`{"Key":null,"Error":"peer a: bad block"}`) || !strings.HasSuffix(got, `"Type":"error"}`+"\n") || err == nil {
		t.Errorf("%s, %v", got, err)
	}
}

func TestListingBreaks(t *testing.T) {
	s := newSetup(t)
	s.post(t, "/api/v0/pin/add?arg="+emptyDir)
	s.cluster.broken = api.Errorf(api.CodeUnavailable, "lost")
	if got := s.post(t, "/api/v0/pin/ls"); got.status != 500 || !strings.Contains(got.body, "lost") {
		t.Errorf("%s", got)
	}
	got, err := raw(t, s.server, "POST /api/v0/pin/ls?stream=true HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.Contains(got, emptyDir) || !strings.Contains(got, `"Message":"lost"`) || err == nil {
		t.Errorf("%s, %v", got, err)
	}
}

// TestReadsOwnWrites checks that a pin that was made through another peer is
// there for every command (INV-LINEAR).
func TestReadsOwnWrites(t *testing.T) {
	for _, c := range []struct {
		target, want string
		status       int
	}{
		{"pin/ls?arg=" + emptyDir, emptyDir, 200},
		{"pin/ls", emptyDir, 200},
		{"pin/ls?stream=true", emptyDir, 200},
		{"pin/update?arg=" + emptyDir + "&arg=" + emptyFile, emptyFile, 200},
		{"pin/rm?recursive=false&arg=" + emptyDir, "is pinned recursively", 500},
		{"pin/add?recursive=false&arg=" + emptyDir, "already pinned recursively", 500},
	} {
		s := newSetup(t)
		s.post(t, "/api/v0/pin/add?arg="+emptyDir)
		s.cluster.behind = true
		if got := s.post(t, "/api/v0/"+c.target); got.status != c.status || !strings.Contains(got.body, c.want) {
			t.Errorf("%s: %s", c.target, got)
		}
	}
}

func TestTimeout(t *testing.T) {
	s := newSetup(t)
	s.cluster.resolve = func(ctx context.Context, _ string) (api.Cid, error) {
		<-ctx.Done()
		return api.Cid{}, ctx.Err()
	}
	if got := s.post(t, "/api/v0/pin/add?arg=/ipns/slow.example&timeout=1ms"); got.status != 500 || !strings.Contains(got.body, "deadline") {
		t.Errorf("%s", got)
	}
}
