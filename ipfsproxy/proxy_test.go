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

// TestPassThrough checks that what the cluster does not answer reaches the node
// as it is, and that its answer comes back as it is.
func TestPassThrough(t *testing.T) {
	for _, c := range []struct{ method, target string }{
		{"POST", "/api/v0/cat?arg=a&arg=b&x=%20y"},
		{"POST", "/api/v0/version"},
		{"GET", "/api/v0/pin/add?arg=x"},
		{"PUT", "/api/v0/add"},
		{"OPTIONS", "/api/v0/pin/ls"},
		{"DELETE", "/api/v0/pin/rm/x"},
		{"POST", "/api/v0/pin/verify"},
		{"POST", "/api/v0/pin/remote/add?arg=x"},
		{"POST", "/api/v0/pin/add/a/b"},
		{"POST", "/api/v0/block/put"},
		{"POST", "/api/v0/block/put?pin=false"},
		{"POST", "/api/v0/dag/put?pin=perhaps"},
		{"POST", "/api/v0/dag/put?pin=true&pin=false"},
		{"POST", "/api/v0/dag/import?pin-roots=false"},
		{"POST", "/api/v0/dag/import?local-only=true"},
		{"POST", "/api/v0/dag/import?pin-roots=perhaps"},
		{"POST", "/api/v0/add/x"},
		{"POST", "/api/v1/pin/ls"},
		{"POST", "/webui"},
		{"POST", "/"},
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
			if len(s.node.seen) != 1 || !strings.HasPrefix(s.node.seen[0], c.method+" "+c.target+" ") || !strings.Contains(s.node.seen[0], "body") || !strings.HasSuffix(s.node.seen[0], "[1 2] <nil>") {
				t.Errorf("the node saw %q", s.node.seen)
			}
			if got.status != http.StatusTeapot || got.body != "short and stout" || got.header.Get("X-Chunked-Output") != "7" || got.trailer.Get("X-Late") != "tea" {
				t.Errorf("answer %s", got)
			}
			if len(s.cluster.requests) != 0 || s.adder.params.Format != "" {
				t.Error("the cluster did something")
			}
		})
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
		if got := s.upload(t, "/api/v0/add"); got.status != 200 || got.body != `{"Name":"f","Bytes":5}`+"\n" || got.trailer.Get(streamError) != "the disk is full" {
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
		if got := s.upload(t, "/api/v0/dag/put?pin"); got.trailer.Get(streamError) != "it broke" || len(s.cluster.requests) != 0 {
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
	if got := s.post(t, "/api/v0/repo/gc"); got.body != key || !strings.Contains(got.trailer.Get(streamError), "bad block") || !strings.Contains(got.trailer.Get(streamError), "down") {
		t.Errorf("%s", got)
	}
	if got := s.post(t, "/api/v0/repo/gc?stream-errors=true"); !strings.HasPrefix(got.body, key+`{"Key":null,"Error":"peer a: bad block"}`) || got.trailer.Get(streamError) == "" {
		t.Errorf("%s", got)
	}
}

func TestListingBreaks(t *testing.T) {
	s := newSetup(t)
	s.post(t, "/api/v0/pin/add?arg="+emptyDir)
	s.cluster.broken = api.Errorf(api.CodeUnavailable, "lost")
	for _, query := range []string{"", "?stream=true"} {
		if got := s.post(t, "/api/v0/pin/ls"+query); got.status != 200 || got.trailer.Get(streamError) != "lost" {
			t.Errorf("%s", got)
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
