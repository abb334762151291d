package restapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/restapi"
	"holdfast/restapi/fake"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	cidA  = must(api.DecodeCid("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"))
	cidB  = must(api.DecodeCid("QmWATWQ7fVPP2EFGu71UkfnqhYXDYH566qy47CnJDgvs8u"))
	peerA = must(api.DecodePeer("12D3KooWGRUVh7vKjCTiUzvEgYd9Z6DNxqVSqaGeFrMJyC8Mpnn5"))
	peerB = must(api.DecodePeer("12D3KooWHVXoJnv2ifmr9K6LWwJPXxkfvzZRHzjiTZMvybeTnwPy"))
	addrA = multiaddr.StringCast("/ip4/203.0.113.7/tcp/4001/p2p/" + peerA.String())
	then  = time.Date(2026, 11, 20, 23, 35, 21, 0, time.UTC)
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// ask sends a request to a handler over a real connection, so that streams,
// trailers and HEAD are those of net/http, and returns the read body.
func ask(t *testing.T, service *fake.Service, method, target, contentType, body string) (*http.Response, string) {
	t.Helper()
	server := httptest.NewServer(restapi.New(service, service, restapi.Config{}))
	defer server.Close()
	req, err := http.NewRequest(method, server.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.Header.Set("TE", "trailers")
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(data)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	var pretty bytes.Buffer
	for line := range strings.Lines(got) {
		if err := json.Indent(&pretty, []byte(line), "", "  "); err != nil {
			t.Fatalf("%s: %v in %s", name, err, line)
		}
	}
	file := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.WriteFile(file, pretty.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if pretty.String() != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, pretty.String(), want)
	}
}

func fullPin() api.Pin {
	return api.Pin{PinOptions: api.PinOptions{ReplicationFactorMin: 2, ReplicationFactorMax: 3, Name: "hello <&>", Mode: api.ModeDirect,
		ExpireAt: then.Add(time.Hour), Metadata: map[string]string{"k": "v"}, Origins: []multiaddr.Multiaddr{addrA}},
		Cid: cidA, Type: api.TypeData, Allocations: []peer.ID{peerA, peerB}, Timestamp: then, Revision: 12}
}

func fullStatus() api.GlobalPinInfo {
	return api.GlobalPinInfo{Cid: cidA, Name: "hello", Allocations: []peer.ID{peerA}, Created: then,
		PeerMap: map[string]api.PinInfoShort{
			peerA.String(): {PeerName: "a", IPFS: peerA, IPFSAddresses: []multiaddr.Multiaddr{addrA}, Status: api.StatusPinError,
				Timestamp: then, Error: "the disk is full", AttemptCount: 1, PriorityPin: true},
			peerB.String(): {PeerName: "b", Status: api.StatusRemote, Timestamp: then},
		}}
}

// The files in testdata are what clients of the incumbent parse.
func TestGoldenJSON(t *testing.T) {
	everywhere := api.Pin{Cid: cidB, Type: api.TypeData, Timestamp: then,
		PinOptions: api.PinOptions{Mode: api.ModeRecursive, ReplicationFactorMin: -1, ReplicationFactorMax: -1}}
	service := &fake.Service{
		Release: api.Version{Version: "1.2.3"},
		OnID: func() (api.ID, error) {
			return api.ID{ID: peerA, ClusterPeers: []peer.ID{peerA}, Version: "1.2.3", RPCProtocolVersion: api.RPCProtocol,
				Addresses: []multiaddr.Multiaddr{addrA}, IPFS: api.IPFSID{ID: peerB, Addresses: []multiaddr.Multiaddr{addrA}}, PeerName: "a"}, nil
		},
		OnPeers:       func() iter.Seq2[api.ID, error] { return fake.Yields(nil, api.ID{ID: peerB, Error: "no answer"}) },
		OnAllocations: func(api.PinFilter) iter.Seq2[api.Pin, error] { return fake.Yields(nil, fullPin(), everywhere) },
		OnStatus:      func(api.Cid, bool) (api.GlobalPinInfo, error) { return fullStatus(), nil },
		OnStatusAll: func(api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
			return fake.Yields(nil, fullStatus(), api.GlobalPinInfo{Cid: cidB})
		},
		OnRepoGC: func(bool) (api.GlobalRepoGC, error) {
			return api.GlobalRepoGC{PeerMap: map[string]api.RepoGC{
				peerA.String(): {Peer: peerA, PeerName: "a", Keys: []api.RepoGCKey{{Key: cidA}, {Error: "no link by that name"}}},
				peerB.String(): {Peer: peerB, PeerName: "b", Error: "no answer"}}}, nil
		},
		OnAllocation: func(api.Cid) (api.Pin, error) {
			return api.Pin{}, api.Errorf(api.CodeNotFound, "%s is not part of the pinset", cidA)
		},
	}
	for _, tc := range []struct{ name, method, target string }{
		{"id", "GET", "/id"}, {"version", "GET", "/version"}, {"peers", "GET", "/peers"},
		{"pins", "GET", "/allocations"}, {"status", "GET", "/pins/" + cidA.String()}, {"statuses", "GET", "/pins"},
		{"gc", "POST", "/ipfs/gc"}, {"error", "GET", "/allocations/" + cidA.String()},
	} {
		resp, body := ask(t, service, tc.method, tc.target, "", "")
		if ct := resp.Header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("%s: Content-Type %q", tc.name, ct)
		}
		if !strings.HasSuffix(body, "}\n") || resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %q %v", tc.name, body, resp.Header)
		}
		golden(t, tc.name, body)
	}
}

func TestStatuses(t *testing.T) {
	a := cidA.String()
	internal := errors.New("the disk broke")
	service := &fake.Service{
		OnPin:   func(r api.PinRequest) (api.PinResult, error) { return api.PinResult{Pin: fullPin(), Index: 12}, nil },
		OnUnpin: func(api.UnpinRequest) (api.PinResult, error) { return api.PinResult{Pin: fullPin(), Index: 13}, nil },
		OnResolve: func(path string) (api.Cid, error) {
			return api.Cid{}, api.Errorf(api.CodeInvalid, "no such path %s", path)
		},
		OnSetRole: func(r api.RoleRequest) error {
			if r.Peer == peerB {
				return api.Errorf(api.CodeInvalid, "cannot become %s", r.Role)
			}
			return nil
		},
		OnTransferLeadership: func(id peer.ID) error {
			if id == peerB {
				return api.Errorf(api.CodeConflict, "it has no vote")
			}
			return nil
		},
		OnRemovePeer: func(r api.RemoveRequest) error {
			if r.Peer == peerB && !r.Force {
				return api.Errorf(api.CodeNotFound, "no such peer")
			}
			return nil
		},
		OnID:          func() (api.ID, error) { return api.ID{}, internal },
		OnAllocations: func(api.PinFilter) iter.Seq2[api.Pin, error] { return fake.Yields[api.Pin](nil) },
		OnCount:       func(api.PinFilter) (uint64, error) { return 0, nil },
		OnStatusAll: func(api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
			return fake.Yields[api.GlobalPinInfo](internal)
		},
		OnRecoverAll: func(bool) iter.Seq2[api.GlobalPinInfo, error] { return fake.Yields(internal, fullStatus()) },
		OnRecover: func(api.Cid, bool) (api.GlobalPinInfo, error) {
			return api.GlobalPinInfo{}, api.Errorf(api.CodeNoLeader, "no leader")
		},
		OnAlerts: func() []api.Alert { return nil },
		OnPeers:  func() iter.Seq2[api.ID, error] { return fake.Yields(nil, api.ID{ID: peerA}) },
		OnRepoGC: func(bool) (api.GlobalRepoGC, error) { return api.GlobalRepoGC{}, nil },
	}
	for _, tc := range []struct {
		method, target string
		status         int
		has            string // in the body; "": the body is empty
	}{
		{"GET", "/health", 204, ""},
		{"HEAD", "/health", 204, ""},
		{"GET", "/health/alerts", 200, "[]"},
		{"GET", "/health/ready", 200, `{"ready":true,"reasons":[]}`},
		{"HEAD", "/health/ready", 200, ""},
		{"GET", "/id", 500, `"reason":"internal"`},
		{"GET", "/nothing", 404, `{"code":404,"message":"there is nothing at /nothing","reason":"not_found"}`},
		{"GET", "/", 404, `"code":404`},
		{"GET", "/pins/" + a + "/extra", 404, `"code":404`},
		{"POST", "/pins/" + a + "/extra", 404, `"code":404`},
		{"PUT", "/pins/" + a, 405, `use GET, HEAD, POST, DELETE`},
		{"DELETE", "/id", 405, `use GET, HEAD"`},
		{"GET", "/add", 405, `use POST"`},
		{"GET", "/pins/ipfs/" + a, 405, `use POST, DELETE"`},
		{"PUT", "/pins", 405, `"code":405`},
		{"POST", "/peers", 501, `cluster-service token create`},
		{"DELETE", "/peers/" + peerA.String(), 204, ""},
		{"DELETE", "/peers/" + peerB.String(), 404, `no such peer`},
		{"DELETE", "/peers/" + peerB.String() + "?force=true", 204, ""},
		{"DELETE", "/peers/" + peerB.String() + "?force=maybe", 400, `force`},
		{"POST", "/peers/" + peerA.String() + "/promote", 204, ""},
		{"POST", "/peers/" + peerB.String() + "/promote", 400, `cannot become voter`},
		{"POST", "/peers/" + peerB.String() + "/demote", 400, `cannot become learner`},
		{"POST", "/peers/" + peerB.String() + "/auto", 400, `cannot become auto`},
		{"POST", "/peers/nobody/auto", 400, `\"nobody\" is not a peer ID`},
		{"POST", "/peers/" + peerA.String() + "/lead", 204, ""},
		{"POST", "/peers/" + peerB.String() + "/lead", 412, `it has no vote`},
		{"GET", "/peers/" + peerA.String() + "/lead", 405, `use POST`},
		{"DELETE", "/peers/nobody", 400, `\"nobody\" is not a peer ID`},
		{"GET", "/allocations", 204, ""},
		{"HEAD", "/allocations", 204, ""},
		{"HEAD", "/peers", 200, ""},
		{"HEAD", "/version", 200, ""},
		{"GET", "/allocations?filter=pin,wrong", 400, `parameter filter invalid: unknown pin type \"wrong\"`},
		{"GET", "/allocations?limit=-1", 400, `parameter limit invalid`},
		{"GET", "/allocations?after=x", 400, `parameter after invalid: \"x\" is not a CID`},
		{"GET", "/allocations?peer=x", 400, `parameter peer invalid`},
		{"GET", "/allocations/x", 400, `\"x\" is not a CID`},
		{"GET", "/pins", 500, `the disk broke`},
		{"GET", "/pins?filter=pinned,zzz", 400, `parameter filter invalid: unknown status \"zzz\"`},
		{"GET", "/pins?filter=undefined", 400, `parameter filter invalid`},
		{"GET", "/pins?local=perhaps", 400, `parameter local invalid: \"perhaps\" is not true or false`},
		{"GET", "/pins?cids=" + a + ",x", 400, `parameter cids invalid`},
		{"GET", "/pins?x=%zz", 400, `query string does not parse`},
		{"GET", "/pins/x", 400, `is not a CID`},
		{"POST", "/pins/x", 400, `is not a CID`},
		{"DELETE", "/pins/x", 400, `is not a CID`},
		{"DELETE", "/pins/" + a, 200, `"cid"`},
		{"DELETE", "/pins/ipfs/" + a, 200, `"cid"`},
		{"DELETE", "/pins/ipld/" + a + "/x", 400, `no such path /ipld/` + a + `/x`},
		{"POST", "/pins/ipfs/nonsense/x", 400, `is not a CID`},
		{"POST", "/pins/ipns/nonsense", 400, `no such path /ipns/nonsense`},
		{"POST", "/pins/recover", 200, `"cid"`},
		{"POST", "/pins/recover?local=x", 400, `parameter local`},
		{"POST", "/pins/" + a + "/recover", 503, `"reason":"no_leader"`},
		{"POST", "/ipfs/gc", 200, `{"peer_map":{}}`},
		{"POST", "/ipfs/gc?local=x", 400, `parameter local`},
		{"POST", "/pins/" + a + "?unknown=1", 200, `"cid"`},
	} {
		resp, body := ask(t, service, tc.method, tc.target, "", "")
		if resp.StatusCode != tc.status || !strings.Contains(body, tc.has) || (tc.has == "" && body != "") {
			t.Errorf("%s %s: %d %q, want %d with %q", tc.method, tc.target, resp.StatusCode, body, tc.status, tc.has)
		}
		if resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: Content-Type %q", tc.method, tc.target, resp.Header.Get("Content-Type"))
		}
	}
	resp, _ := ask(t, service, "POST", "/pins/"+a, "", "")
	if resp.Header.Get("X-Cluster-Index") != "12" {
		t.Errorf("no index: %v", resp.Header)
	}
	resp, _ = ask(t, service, "POST", "/pins/recover", "", "")
	if resp.Trailer.Get("X-Stream-Error") != "the disk broke" || resp.Trailer.Get("X-Stream-Error-Code") != "internal" {
		t.Errorf("trailer %v", resp.Trailer)
	}
	resp, _ = ask(t, service, "GET", "/peers", "", "")
	if v, sent := resp.Trailer["X-Stream-Error"]; !sent || len(v) != 1 || v[0] != "" {
		t.Errorf("the trailer of a good stream: %v", resp.Trailer)
	}
}

func TestTrailingSlash(t *testing.T) {
	for target, want := range map[string]string{
		"/pins/?filter=pinned": "/pins?filter=pinned",
		"//example.org//":      "/example.org",
		"/pins/ipfs/a%20b/":    "/pins/ipfs/a%20b",
	} {
		resp, _ := ask(t, &fake.Service{}, "GET", target, "", "")
		if resp.StatusCode != http.StatusTemporaryRedirect || resp.Header.Get("Location") != want {
			t.Errorf("%s: %d %q", target, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
}

func TestRequestIDs(t *testing.T) {
	var got []string
	service := &fake.Service{
		OnPin: func(r api.PinRequest) (api.PinResult, error) {
			got = append(got, r.RequestID)
			return api.PinResult{}, nil
		},
		OnID: func() (api.ID, error) { return api.ID{}, errors.New("secret cause") },
	}
	var log bytes.Buffer
	handler := restapi.New(service, service, restapi.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	send := func(method, target, key, trace string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, target, nil)
		r.Header.Set("Idempotency-Key", key)
		r.Header.Set("X-Request-Id", trace)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	for _, key := range []string{"k", "k", "other", "", ""} {
		send("POST", "/pins/"+cidA.String(), key, "")
	}
	send("POST", "/pins/"+cidB.String(), "k", "")
	if got[0] != got[1] {
		t.Error("a repeat has another request id")
	}
	seen := map[string]bool{}
	for _, id := range got[1:] {
		if id == "" || seen[id] {
			t.Errorf("request id %q is not its own in %q", id, got)
		}
		seen[id] = true
	}
	if w := send("POST", "/pins/"+cidA.String(), strings.Repeat("k", 300), ""); w.Code != 400 {
		t.Errorf("long key: %d", w.Code)
	}
	if w := send("GET", "/id", "", "mine-1"); w.Header().Get("X-Request-Id") != "mine-1" || !strings.Contains(log.String(), "mine-1") ||
		!strings.Contains(log.String(), "secret cause") {
		t.Errorf("trace id %v, log %s", w.Header(), log.String())
	}
	if w := send("GET", "/health", "", "bad\tid "); strings.Contains(w.Header().Get("X-Request-Id"), "bad") {
		t.Errorf("odd trace id %q came back", w.Header().Get("X-Request-Id"))
	}
}

func TestManyCids(t *testing.T) {
	var got int
	service := &fake.Service{OnStatusAll: func(q api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
		got = len(q.Cids)
		return fake.Yields(nil, fullStatus())
	}}
	resp, _ := ask(t, service, "GET", "/pins?cids="+strings.TrimSuffix(strings.Repeat(cidA.String()+",", 10_000), ","), "", "")
	if resp.StatusCode != 200 || got != 10_000 {
		t.Errorf("%d with %d CIDs", resp.StatusCode, got)
	}
}

// A client that waits sees an object before the next one exists.
func TestFirstObjectAtOnce(t *testing.T) {
	next := make(chan struct{})
	service := &fake.Service{OnAllocations: func(api.PinFilter) iter.Seq2[api.Pin, error] {
		return func(yield func(api.Pin, error) bool) {
			if yield(fullPin(), nil) {
				<-next
				yield(fullPin(), nil)
			}
		}
	}}
	server := httptest.NewServer(restapi.New(service, service, restapi.Config{}))
	defer server.Close()
	resp, err := http.Get(server.URL + "/allocations")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	decoder := json.NewDecoder(resp.Body)
	for i := range 2 {
		var pin api.Pin
		if err := decoder.Decode(&pin); err != nil || pin.Cid != cidA {
			t.Fatal(i, pin, err)
		}
		if i == 0 {
			close(next)
		}
	}
}

// A client that goes away ends the walk, however long the list is.
func TestClientGone(t *testing.T) {
	ended := make(chan int, 1)
	service := &fake.Service{OnAllocations: func(api.PinFilter) iter.Seq2[api.Pin, error] {
		return func(yield func(api.Pin, error) bool) {
			n := 0
			for yield(fullPin(), nil) {
				n++
			}
			ended <- n
		}
	}}
	server := httptest.NewServer(restapi.New(service, service, restapi.Config{}))
	defer server.Close()
	resp, err := http.Get(server.URL + "/allocations")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-ended
}

func BenchmarkStream(b *testing.B) {
	service := &fake.Service{OnAllocations: func(api.PinFilter) iter.Seq2[api.Pin, error] {
		return func(yield func(api.Pin, error) bool) {
			for range b.N {
				if !yield(fullPin(), nil) {
					return
				}
			}
		}
	}}
	server := httptest.NewServer(restapi.New(service, service, restapi.Config{}))
	defer server.Close()
	b.ReportAllocs()
	resp, err := http.Get(server.URL + "/allocations")
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(n)/float64(b.N), "B/pin")
}
