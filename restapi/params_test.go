package restapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/api"
	"holdfast/restapi"
	"holdfast/restapi/fake"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Every wrong option is refused by name, on both pin endpoints and on add, and
// nothing reaches the service.
func TestWrongOptionsPinNothing(t *testing.T) {
	service := &fake.Service{} // a call would panic
	for query, has := range map[string]string{
		"mode=deep":                                  `parameter mode invalid: unknown pin mode \"deep\"`,
		"replication=many":                           `parameter replication invalid: \"many\" is not a whole number`,
		"replication-min=1.5":                        `parameter replication-min invalid`,
		"replication-max=x":                          `parameter replication-max invalid`,
		"replication-min=3&replication-max=2":        `min 3 is larger than max 2`,
		"replication-min=-1&replication-max=2":       `-1 (every peer) goes for both`,
		"replication=-2":                             `replication factors are -1`,
		"shard-size=-1":                              `parameter shard-size invalid`,
		"user-allocations=" + peerA.String() + ",me": `parameter user-allocations invalid: \"me\" is not a peer ID`,
		"expire-at=tomorrow":                         `parameter expire-at invalid`,
		"expire-at=2001-01-01T00:00:00Z":             `parameter expire-at invalid: \"2001-01-01T00:00:00Z\" is not in the future`,
		"expire-in=1ms":                              `parameter expire-in invalid`,
		"expire-in=soon":                             `parameter expire-in invalid`,
		"pin-update=x":                               `parameter pin-update invalid: \"x\" is not a CID`,
		"origins=/ip4/1.2.3.4/tcp/1":                 `parameter origins invalid`,
		"origins=here":                               `parameter origins invalid: origin \"here\" is not a multiaddr`,
		"name=" + strings.Repeat("n", 2000):          `the name has 2000 bytes`,
		"meta-k=" + strings.Repeat("v", 20_000):      `the metadata has`,
	} {
		for _, target := range []string{"/pins/" + cidA.String(), "/pins/ipfs/" + cidA.String() + "/path", "/add"} {
			resp, body := ask(t, service, "POST", target+"?"+query, "", "")
			if resp.StatusCode != 400 || !strings.Contains(body, has) || strings.Count(body, "\n") != 1 {
				t.Errorf("%s?%.80s: %d %s", target, query, resp.StatusCode, body)
			}
		}
	}
}

func TestPinOptions(t *testing.T) {
	later := time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)
	origin := "/ip4/1.2.3.4/tcp/1/p2p/" + peerA.String()
	for query, want := range map[string]api.PinOptions{
		"":            {},
		"mode=direct": {Mode: api.ModeDirect},
		"replication=2&replication-min=1&replication-max=5":         {ReplicationFactorMin: 2, ReplicationFactorMax: 2},
		"replication-min=1&replication-max=5":                       {ReplicationFactorMin: 1, ReplicationFactorMax: 5},
		"replication-min=2":                                         {ReplicationFactorMin: 2},
		"replication=-1":                                            {ReplicationFactorMin: -1, ReplicationFactorMax: -1},
		"user-allocations=" + peerB.String() + "," + peerA.String(): {UserAllocations: []peer.ID{peerB, peerA}},
		"expire-at=2100-01-02T03:04:05Z&expire-in=1h":               {ExpireAt: later},
		"expire-at=0001-01-01T00:00:00Z":                            {},
		"meta-a=1&meta-b=x%3Dy&meta-=lost":                          {Metadata: map[string]string{"a": "1", "b": "x=y"}},
		"pin-update=" + cidB.String():                               {PinUpdate: cidB},
		"origins=" + origin:                                         {Origins: must(api.ParseOrigins([]string{origin}))},
		"name=a+b&shard-size=7&zz=1":                                {Name: "a b", ShardSize: 7},
		// What a client of the incumbent sends for defaults.
		"name=&mode=recursive&replication-min=0&replication-max=0&shard-size=0&user-allocations=&expire-at=&pin-update=&origins=": {},
	} {
		if want.Mode == "" {
			want.Mode = api.ModeRecursive
		}
		for _, target := range []string{"/pins/" + cidA.String(), "/pins/ipfs/" + cidA.String()} {
			var got api.PinRequest
			service := &fake.Service{OnPin: func(r api.PinRequest) (api.PinResult, error) { got = r; return api.PinResult{}, nil }}
			resp, body := ask(t, service, "POST", target+"?"+query, "", "")
			if resp.StatusCode != 200 || got.Cid != cidA || !reflect.DeepEqual(got.Options, want) {
				t.Errorf("%s?%s: %d %s\ngot  %+v\nwant %+v", target, query, resp.StatusCode, body, got.Options, want)
			}
		}
	}
	var got api.PinRequest
	service := &fake.Service{OnPin: func(r api.PinRequest) (api.PinResult, error) { got = r; return api.PinResult{}, nil }}
	ask(t, service, "POST", "/pins/"+cidA.String()+"?expire-in=1h", "", "")
	if in := time.Until(got.Options.ExpireAt); in > time.Hour || in < 59*time.Minute {
		t.Errorf("expires in %v", in)
	}
}

func TestAddParams(t *testing.T) {
	base := api.NewAddParams()
	base.Layout = "balanced"
	with := func(change func(*api.AddParams)) api.AddParams {
		p := base
		change(&p)
		return p
	}
	for query, want := range map[string]api.AddParams{
		"": base,
		"recursive=true&hidden=false&shard=false&nocopy=false": base,
		"cid-version=1":                   with(func(p *api.AddParams) { p.CidVersion, p.RawLeaves = 1, true }),
		"cid-version=1&raw-leaves=false":  with(func(p *api.AddParams) { p.CidVersion = 1 }),
		"hash=blake2b-256":                with(func(p *api.AddParams) { p.HashFun, p.CidVersion, p.RawLeaves = "blake2b-256", 1, true }),
		"layout=trickle&chunker=size-100": with(func(p *api.AddParams) { p.Layout, p.Chunker = "trickle", "size-100" }),
		"format=car&local=true&progress=true&no-pin=1&only-hash=T": with(func(p *api.AddParams) {
			p.Format, p.Local, p.Progress, p.NoPin, p.OnlyHash = "car", true, true, true, true
		}),
		"wrap-with-directory=true&name=n&stream-channels=false": with(func(p *api.AddParams) { p.Wrap, p.Name, p.StreamChannels = true, "n", false }),
	} {
		var got api.AddParams
		service := &fake.Service{OnAdd: func(_ *multipart.Reader, p api.AddParams, _ func(api.AddedOutput) error) error {
			got = p
			return nil
		}}
		contentType, body := form("f", "x")
		resp, answer := ask(t, service, "POST", "/add?"+query, contentType, body)
		if got.RequestID == "" {
			t.Errorf("%s: no request id: %d %s", query, resp.StatusCode, answer)
		}
		got.RequestID = ""
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", query, got, want)
		}
	}
}

func form(name, content string) (contentType, body string) {
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	part, _ := w.CreateFormFile("file", name)
	_, _ = io.WriteString(part, content)
	_ = w.Close()
	return w.FormDataContentType(), buf.String()
}

func TestAddRefusals(t *testing.T) {
	contentType, body := form("f", "x")
	for _, tc := range []struct {
		query, contentType string
		status             int
		has                string
	}{
		{"", "", 400, "the body must be multipart/form-data"},
		{"", "application/json", 400, "the body must be multipart/form-data"},
		{"", "multipart/form-data", 400, "the body must be multipart/form-data"},
		{"progress=often", contentType, 400, `parameter progress invalid: \"often\" is not true or false`},
		{"raw-leaves=x", contentType, 400, "parameter raw-leaves invalid"},
		{"recursive=x", contentType, 400, "parameter recursive invalid"},
		{"cid-version=2", contentType, 400, "parameter cid-version invalid"},
		{"cid-version=x", contentType, 400, "parameter cid-version invalid"},
		{"format=tar", contentType, 400, `parameter format invalid: \"tar\" is not unixfs or car`},
		{"layout=flat", contentType, 400, "parameter layout invalid"},
		{"hash=sha3-512&cid-version=0", contentType, 400, "parameter hash invalid"},
		{"format=car&wrap-with-directory=true", contentType, 400, "wrap-with-directory"},
		{"pin-update=" + cidA.String(), contentType, 400, "pin-update"},
		{"shard=true", contentType, 501, "parameter shard"},
		{"nocopy=true", contentType, 501, "parameter nocopy"},
	} {
		resp, got := ask(t, &fake.Service{}, "POST", "/add?"+tc.query, tc.contentType, body)
		if resp.StatusCode != tc.status || !strings.Contains(got, tc.has) {
			t.Errorf("%s (%s): %d %s", tc.query, tc.contentType, resp.StatusCode, got)
		}
	}
}

func TestAddAnswers(t *testing.T) {
	outputs := []api.AddedOutput{{Name: "f", Bytes: 12}, {Name: "f", Cid: cidA, Size: 20, Allocations: []peer.ID{peerA}}}
	full := api.Errorf(api.CodeNoSpace, "the disk is full")
	adds := func(n int, err error) *fake.Service {
		return &fake.Service{OnAdd: func(body *multipart.Reader, _ api.AddParams, emit func(api.AddedOutput) error) error {
			part, perr := body.NextPart()
			if perr != nil {
				return perr
			}
			if data, perr := io.ReadAll(part); perr != nil || string(data) != "content" {
				return fmt.Errorf("part %q: %w", data, perr)
			}
			for _, item := range outputs[:n] {
				if err := emit(item); err != nil {
					return err
				}
			}
			return err
		}}
	}
	contentType, body := form("f", "content")
	first := `{"name":"f","cid":null,"bytes":12}` + "\n"
	second := fmt.Sprintf(`{"name":"f","cid":"%s","size":20,"allocations":["%s"]}`+"\n", cidA, peerA)
	for _, tc := range []struct {
		name, query string
		service     *fake.Service
		status      int
		body        string
		trailer     string
	}{
		{"stream", "", adds(2, nil), 200, first + second, ""},
		{"nothing", "", adds(0, nil), 204, "", ""},
		{"error at once", "", adds(0, full), 507, `{"code":507,"message":"the disk is full","reason":"no_space"}` + "\n", ""},
		{"error later", "", adds(1, full), 507, `{"code":507,"message":"the disk is full","reason":"no_space"}` + "\n", ""},
		{"error later, watched", "?progress=true", adds(1, full), 200, first, "the disk is full"},
		{"array", "?stream-channels=false", adds(2, nil), 200, "[" + strings.TrimSpace(first) + "," + strings.TrimSpace(second) + "]\n", ""},
		{"array of nothing", "?stream-channels=false", adds(0, nil), 200, "[]\n", ""},
		{"array, error later", "?stream-channels=false", adds(1, full), 507, `{"code":507,"message":"the disk is full","reason":"no_space"}` + "\n", ""},
	} {
		resp, got := ask(t, tc.service, "POST", "/add"+tc.query, contentType, body)
		if resp.StatusCode != tc.status || got != tc.body || resp.Trailer.Get("X-Stream-Error") != tc.trailer {
			t.Errorf("%s: %d %q %v", tc.name, resp.StatusCode, got, resp.Trailer)
		}
		if tc.query == "" && tc.status == 200 && (resp.Header.Get("X-Chunked-Output") != "1" || resp.Header.Get("Cache-Control") != "no-cache" || !resp.Close) {
			t.Errorf("%s: headers %v", tc.name, resp.Header)
		}
	}
}

// Outputs come while the upload still goes on when somebody watches the progress.
func TestAddBothWays(t *testing.T) {
	service := &fake.Service{OnAdd: func(body *multipart.Reader, _ api.AddParams, emit func(api.AddedOutput) error) error {
		for {
			part, err := body.NextPart()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := emit(api.AddedOutput{Name: part.FileName(), Cid: cidA}); err != nil {
				return err
			}
		}
	}}
	server := httptest.NewServer(restapi.New(service, service, restapi.Config{}))
	defer server.Close()
	r, w := io.Pipe()
	parts := multipart.NewWriter(w)
	wrote := make(chan error, 1)
	seen := make(chan struct{}, 1)
	go func() {
		for i := range 3 {
			if _, err := parts.CreateFormFile("file", fmt.Sprint(i)); err != nil {
				wrote <- err
				return
			}
			// The head of a part is complete when the next begins.
			if i > 0 {
				<-seen
			}
		}
		wrote <- errors.Join(parts.Close(), w.Close())
	}()
	resp, err := http.Post(server.URL+"/add?"+url.Values{"progress": {"true"}}.Encode(), parts.FormDataContentType(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	decoder := json.NewDecoder(resp.Body)
	for i := range 3 {
		var out api.AddedOutput
		if err := decoder.Decode(&out); err != nil || out.Name != fmt.Sprint(i) {
			t.Fatal(i, out, err)
		}
		if i < 2 {
			seen <- struct{}{}
		}
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
}
