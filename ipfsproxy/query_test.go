package ipfsproxy

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPaths(t *testing.T) {
	for arg, want := range map[string]string{
		"QmX": "/ipfs/QmX", "QmX/a/b": "/ipfs/QmX/a/b", "/ipfs/QmX": "/ipfs/QmX", "/ipns/x.org/a": "/ipns/x.org/a",
		"ipfs://QmX/a": "/ipfs/QmX/a", "ipns:x.org": "/ipns/x.org", "IPFS://QmX": "/ipfs/QmX", "/ipld/x": "/ipld/x", "ipfs:": "/ipfs/ipfs:", "": "/ipfs/",
	} {
		if got := contentPath(arg); got != want {
			t.Errorf("%q is %q, want %q", arg, got, want)
		}
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("pin/add", "arg=x&recursive=maybe", "")
	f.Add("add", "pin&cid-version=1&mode=7", "text")
	f.Add("pin/ls/x", "type=&cid-base=z&encoding=text", "")
	f.Add("dag/import", "pin-roots", "x")
	f.Fuzz(func(t *testing.T, command, query, body string) {
		cluster := newCluster()
		p := New(Deps{Service: cluster, Adder: &scripted{}, Node: &node{}, Lease: cluster.lease}, Config{})
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("--b\r\nContent-Disposition: form-data; filename=x\r\n\r\n"+body+"\r\n--b--\r\n"))
		r.URL.Path, r.URL.RawQuery = "/api/v0/"+command, query
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != 200 && w.Code != 400 && w.Code != 403 && w.Code != 404 && w.Code != 500 {
			t.Errorf("status %d", w.Code)
		}
	})
}
