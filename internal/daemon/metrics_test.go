package daemon

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
	"holdfast/internal/front"
	"holdfast/node/fake"
	"holdfast/rpc"
)

// url is where a peer's REST API listens.
func (v *victim) url(t testing.TB) string { return urlOf(t, v.daemon.rest) }

func urlOf(t testing.TB, f *front.Front) string {
	t.Helper()
	addr, err := manet.ToNetAddr(multiaddr.StringCast(f.Addrs()[0]))
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + addr.String()
}

// scrape returns the values of a peer's metrics, by name and labels, and the
// types of their families.
func (v *victim) scrape(t testing.TB) (values map[string]float64, types map[string]string) {
	t.Helper()
	resp, err := http.Get(v.url(t) + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("%s %s %s %v", resp.Status, resp.Header.Get("Content-Type"), body, err)
	}
	values, types = map[string]float64{}, map[string]string{}
	for line := range strings.Lines(string(body)) {
		if family, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(strings.TrimSpace(family), " ")
			types[name] = kind
			continue
		}
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if values[line[:at]], err = strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err != nil {
			t.Fatal(line, err)
		}
	}
	return values, types
}

// until scrapes until a metric has at least a value.
func (v *victim) until(t testing.TB, metric string, least float64) map[string]float64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		values, _ := v.scrape(t)
		if values[metric] >= least {
			return values
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s is %v, and not %v", metric, values[metric], least)
		}
	}
}

func (v *victim) post(t testing.TB, path string) {
	t.Helper()
	resp, err := http.Post(v.url(t)+path, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(path, resp.Status)
	}
}

// absent are what a peer that is well and new does not show.
var absent = map[string]bool{"holdfast_alert": true, "holdfast_raft_snapshot_timestamp_seconds": true}

// TestMetricsMove looks at the metrics of a whole peer: each that is documented
// is there, and they follow what happens.
func TestMetricsMove(t *testing.T) {
	broken := rawBlock(t, "cannot be fetched").Cid()
	v := startPeer(t, func(op fake.Op) error {
		if op.Name == "fetch" && op.Cid.Equals(broken) {
			return api.Errorf(api.CodeNoSpace, "a test")
		}
		return nil
	})
	before := v.until(t, `holdfast_raft_state{state="leader"}`, 1)
	if before["holdfast_raft_leader_changes_total"] < 1 || before["holdfast_raft_leader_known"] != 1 || before["holdfast_raft_term"] < 1 {
		t.Errorf("a leader says %v changes, in term %v", before["holdfast_raft_leader_changes_total"], before["holdfast_raft_term"])
	}

	good := rawBlock(t, "is there")
	if err := v.daemon.node.PutBlocks(t.Context(), []blocks.Block{good}); err != nil {
		t.Fatal(err)
	}
	v.post(t, "/pins/"+good.Cid().String())
	after := v.until(t, `holdfast_tracker_attempts_total{result="pinned"}`, 1)
	for metric, by := range map[string]float64{
		"holdfast_pinset_pins": 1, "holdfast_pinset_local_pins": 1, `holdfast_tracker_pins{status="pinned"}`: 1, "holdfast_apply_commands_total": 1,
		"holdfast_raft_applied_index": 1, "holdfast_apply_duration_seconds_count": 1,
		`holdfast_http_requests_total{code="200",listener="restapi",method="POST",route="/pins/{cid}"}`:      1,
		`holdfast_http_request_duration_seconds_count{listener="restapi",method="POST",route="/pins/{cid}"}`: 1,
	} {
		if got := after[metric] - before[metric]; got < by {
			t.Errorf("after a pin %s has grown by %v", metric, got)
		}
	}
	if after["holdfast_raft_log_bytes_total"] <= before["holdfast_raft_log_bytes_total"] || after[`holdfast_http_requests_in_flight{listener="restapi"}`] != 1 {
		t.Error("the log has not grown, or the scrape itself is not in flight")
	}

	v.post(t, "/pins/"+broken.String())
	after = v.until(t, `holdfast_tracker_failures_total{reason="no_space"}`, 1)
	if after[`holdfast_tracker_pins{status="pin_error"}`] != 1 || after[`holdfast_tracker_attempts_total{result="failed"}`] < 1 {
		t.Errorf("a pin failed, and there are %v pins with an error", after[`holdfast_tracker_pins{status="pin_error"}`])
	}

	member, stranger := v.host(t), v.host(t)
	v.join(t, member)
	if err := v.alive(t, stranger); err != nil {
		t.Fatal(err)
	}
	v.say(t, stranger, protocol.ID(api.RPCProtocol), []byte("hello"))
	v.until(t, "holdfast_rpc_strangers_refused_total", 1)
	if resp, err := http.DefaultClient.Do(foreign(t, v.url(t))); err != nil || resp.Body.Close() != nil || resp.StatusCode != http.StatusForbidden {
		t.Fatal(resp, err)
	}
	v.until(t, `holdfast_http_refused_total{listener="restapi",reason="host"}`, 1)
}

func rawBlock(t testing.TB, text string) blocks.Block {
	t.Helper()
	sum, err := multihash.Sum([]byte(text), multihash.SHA2_256, -1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := blocks.NewBlockWithCid([]byte(text), cid.NewCidV1(cid.Raw, sum))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// foreign is a request that a web page might have made.
func foreign(t testing.TB, url string) *http.Request {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/id", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "attacker.example"
	return r
}

// TestMetricsAreThere compares what a peer shows with what the page says.
func TestMetricsAreThere(t *testing.T) {
	v := startVictim(t)
	member := v.host(t)
	v.join(t, member)
	if _, err := rpc.NewClient(rpc.NewTransport(member)).ID(t.Context(), v.at.ID); err != nil {
		t.Fatal(err)
	}
	v.until(t, `holdfast_rpc_server_requests_total{method="Cluster.LocalID",result="ok"}`, 1)
	v.until(t, `holdfast_rpc_client_requests_in_flight`, 0)
	values, types := v.scrape(t)
	for _, f := range v.daemon.metrics.Families() {
		if types[f.Name] != f.Type && !absent[f.Name] && !strings.HasPrefix(f.Name, "holdfast_rpc_client_request") {
			t.Errorf("%s is a %q, and should be a %s", f.Name, types[f.Name], f.Type)
		}
		delete(types, f.Name)
	}
	for name := range types {
		if strings.HasPrefix(name, "holdfast_") {
			t.Errorf("%s is not documented", name)
		}
	}
	for _, name := range []string{"go_goroutines", "process_start_time_seconds"} {
		if values[name] == 0 {
			t.Errorf("%s is missing", name)
		}
	}
	if types["libp2p_swarm_connections_opened_total"] == "" {
		t.Error("nothing of libp2p is shown")
	}
}

// TestScrapesWhileItStops scrapes a peer until it is gone.
func TestScrapesWhileItStops(t *testing.T) {
	v := startVictim(t)
	url := v.url(t)
	var scrapers sync.WaitGroup
	for range 3 {
		scrapers.Go(func() {
			for {
				resp, err := http.Get(url + "/metrics")
				if err != nil {
					return // it is gone
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
	v.stop()
	scrapers.Wait()
	if picture := v.daemon.picture(); picture.Raft.State != "shutdown" || picture.Node.RepoBytes != nil {
		t.Errorf("after its end it says %+v, %+v", picture.Raft, picture.Node)
	}
}

// TestRoutesAreNamed asks every API: what is counted has the template of the
// route, and nothing that the client chose.
func TestRoutesAreNamed(t *testing.T) {
	v := startVictim(t)
	for _, request := range []struct {
		api                        *front.Front
		method, path, series, code string
	}{
		{v.daemon.rest, "GET", "/id", `listener="restapi",method="GET",route="/id"`, "200"},
		{v.daemon.rest, "GET", "/pins/nonsense", `listener="restapi",method="GET",route="/pins/{cid}"`, "400"},
		{v.daemon.rest, "GET", "/nonsense", `listener="restapi",method="GET",route="other"`, "404"},
		{v.daemon.rest, "PUT", "/id", `listener="restapi",method="PUT",route="other"`, "405"},
		{v.daemon.rest, "BREW", "/id", `listener="restapi",method="other",route="other"`, "405"},
		{v.daemon.pinsvc, "GET", "/pins/nonsense", `listener="pinsvc",method="GET",route="/pins/{requestid}"`, "404"},
		{v.daemon.proxy, "POST", "/api/v0/pin/ls", `listener="ipfsproxy",method="POST",route="/api/v0/pin/ls"`, ""},
		{v.daemon.proxy, "POST", "/api/v0/pin/ls/nonsense", `listener="ipfsproxy",method="POST",route="/api/v0/pin/ls"`, ""},
		{v.daemon.proxy, "POST", "/api/v0/nonsense", `listener="ipfsproxy",method="POST",route="other"`, "404"},
		{v.daemon.gateway, "GET", "/ipfs/nonsense", `listener="ipfs.gateway",method="GET",route="other"`, ""},
	} {
		r, err := http.NewRequestWithContext(t.Context(), request.method, urlOf(t, request.api)+request.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		code := strconv.Itoa(resp.StatusCode)
		if request.code != "" && code != request.code {
			t.Errorf("%s %s: %s", request.method, request.path, resp.Status)
		}
		v.until(t, `holdfast_http_requests_total{code="`+code+`",`+request.series+"}", 1)
	}
	values, _ := v.scrape(t)
	for name := range values {
		if strings.Contains(name, "nonsense") || strings.Contains(name, "BREW") {
			t.Errorf("a client chose a label: %s", name)
		}
	}
}
