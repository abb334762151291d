package telemetry

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"gopkg.in/yaml.v3"

	"holdfast/api"
)

var update = flag.Bool("update", false, "rewrite docs/metrics.md")

// full is a picture of which nothing is left out.
func full() Picture {
	size := uint64(1)
	return Picture{Version: "1", Commit: "c", Raft: &Raft{State: "leader", SnapshotTime: time.Unix(1, 0)}, Pinset: &Pinset{},
		Tracker: &Tracker{Pins: map[api.TrackerStatus]uint64{api.StatusPinned: 3}, Failed: map[api.Code]uint64{api.CodeNoSpace: 2, "made up": 1}},
		Node:    &Node{RepoBytes: &size, FreeBytes: &size}, Repair: &Repair{}, Alerts: []string{"gc", "damage", "gc"}}
}

// used are metrics in which everything has happened.
func used() *Metrics {
	m := New()
	m.Show(full)
	m.Applied(time.Millisecond, 2)
	m.HTTPListens("restapi")
	m.HTTPBegun("restapi")
	m.HTTPAnswered("restapi", "/pins/{cid}", "GET", 200, time.Millisecond)
	m.HTTPRefused("restapi", "credentials")
	m.RPCCalls()
	m.RPCCalled("Cluster.Pin", "", time.Millisecond)
	m.RPCServes()
	m.RPCServed("Cluster.Pin", false, time.Millisecond)
	m.RPCRefused()
	return m
}

func scrape(t testing.TB, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestEveryFamilyIsShownAndClean(t *testing.T) {
	m := used()
	text := scrape(t, m.Handler())
	for _, f := range m.Families() {
		if !strings.Contains(text, fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", f.Name, f.Help, f.Name, f.Type)) {
			t.Errorf("%s is not shown as a %s", f.Name, f.Type)
		}
	}
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(text, "\n"+name+" ") {
			t.Errorf("%s is not shown", name)
		}
	}
	var ours strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, "holdfast_") {
			ours.WriteString(line)
		}
	}
	problems, err := promlint.New(strings.NewReader(ours.String())).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestValues(t *testing.T) {
	text := scrape(t, used().Handler())
	for _, line := range []string{
		`holdfast_raft_state{state="leader"} 1`, `holdfast_raft_state{state="follower"} 0`,
		`holdfast_tracker_pins{status="pinned"} 3`,
		`holdfast_tracker_failures_total{reason="no_space"} 2`, `holdfast_tracker_failures_total{reason="internal"} 1`,
		`holdfast_tracker_attempts_total{result="failed"} 3`,
		`holdfast_alert{name="damage"} 1`, `holdfast_alert{name="gc"} 1`,
		`holdfast_apply_commands_total 2`, `holdfast_apply_duration_seconds_count 1`,
		`holdfast_http_requests_total{code="200",listener="restapi",method="GET",route="/pins/{cid}"} 1`,
		`holdfast_http_requests_in_flight{listener="restapi"} 0`,
		`holdfast_http_refused_total{listener="restapi",reason="credentials"} 1`,
		`holdfast_rpc_client_requests_total{code="ok",method="Cluster.Pin"} 1`, `holdfast_rpc_client_requests_in_flight 0`,
		`holdfast_rpc_strangers_refused_total 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
}

// What a client or another peer chooses must not make series.
func TestLabelsAreBounded(t *testing.T) {
	m := New()
	m.HTTPListens("restapi")
	for i := range 1000 {
		m.HTTPBegun("restapi")
		m.HTTPAnswered("restapi", "", fmt.Sprintf("METHOD%d", i), 1000+i, 0)
		m.RPCCalls()
		m.RPCCalled("other", api.Code(fmt.Sprint(i)), 0)
	}
	text := scrape(t, m.Handler())
	for _, line := range []string{`holdfast_http_requests_total{code="500",listener="restapi",method="other",route="other"} 1000`,
		`holdfast_rpc_client_requests_total{code="internal",method="other"} 1000`} {
		if !strings.Contains(text, line) {
			t.Errorf("missing: %s", line)
		}
	}
	if n := strings.Count(text, "\nholdfast_http_requests_total{") + strings.Count(text, "\nholdfast_rpc_client_requests_total{"); n != 2 {
		t.Errorf("there are %d series", n)
	}
}

func TestTwoPeersInOneProcess(t *testing.T) {
	one, other := used(), New()
	if text := scrape(t, other.Handler()); strings.Contains(text, "holdfast_raft_term") || strings.Contains(text, "holdfast_apply_commands_total 2") {
		t.Error("a peer shows what another counted")
	}
	scrape(t, one.Handler())
}

func TestScrapesWhileEverythingCounts(t *testing.T) {
	m := used()
	h := m.Handler()
	var work sync.WaitGroup
	for i := range 4 {
		work.Go(func() {
			for range 200 {
				m.Applied(time.Microsecond, 1)
				m.HTTPBegun("restapi")
				m.HTTPAnswered("restapi", fmt.Sprint("/", i), "GET", 200, 0)
				m.RPCCalls()
				m.RPCCalled(fmt.Sprint("Cluster.", i), api.CodeNoLeader, 0)
			}
		})
	}
	for range 2 {
		work.Go(func() {
			for range 20 {
				scrape(t, h)
			}
		})
	}
	work.Wait()
	if text := scrape(t, h); !strings.Contains(text, "\nholdfast_apply_commands_total 802\n") {
		t.Error("counts were lost")
	}
}

// TestScrapesLeaveNothing scrapes so often that anything kept would show.
func TestScrapesLeaveNothing(t *testing.T) {
	m := used()
	h := m.Handler()
	held := func() (objects uint64, goroutines int) {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapObjects, runtime.NumGoroutine()
	}
	scrape(t, h)
	objects, goroutines := held()
	const times = 10_000
	for i := range times {
		// The rest of a scrape is the libraries', and slow to repeat so often.
		if _, err := m.registry.Gather(); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			h.ServeHTTP(&discard{header: http.Header{}}, httptest.NewRequest("GET", "/metrics", nil))
		}
	}
	if after, running := held(); after > objects+times/2 || running > goroutines {
		t.Errorf("%d scrapes left %d objects and %d goroutines", times, after-objects, running-goroutines)
	}
}

type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

const page = "../../docs/metrics.md"

// TestPage compares the table of the page with what there is; -update rewrites it.
func TestPage(t *testing.T) {
	src, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const head = "| metric | type | labels | says |\n|---|---|---|---|\n"
	before, rest, found := strings.Cut(string(src), head)
	if !found {
		t.Fatalf("%s has no table that begins with %q", page, head)
	}
	_, after, _ := strings.Cut(rest, "\n\n")
	var table strings.Builder
	for _, f := range New().Families() {
		labels := "-"
		if len(f.Labels) > 0 {
			labels = "`" + strings.Join(f.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", f.Name, f.Type, labels, f.Help)
	}
	want := before + head + table.String() + "\n" + after
	if want == string(src) {
		return
	}
	if !*update {
		t.Fatalf("%s is out of date: run go test ./internal/telemetry -run TestPage -update", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestAlertRules sees to it that the example asks for nothing that is not there.
func TestAlertRules(t *testing.T) {
	src, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				For         string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(src, &file); err != nil {
		t.Fatal(err)
	}
	names := map[string]Family{}
	for _, f := range New().Families() {
		names[f.Name] = f
		if f.Type == histogram {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				names[f.Name+suffix] = Family{Labels: append([]string{"le"}, f.Labels...)}
			}
		}
	}
	rules := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			rules++
			asked := regexp.MustCompile(`holdfast_\w+`).FindAllString(rule.Expr, -1)
			if rule.Alert == "" || rule.Annotations["summary"] == "" || len(asked) == 0 {
				t.Errorf("rule %q asks %q and says %q", rule.Alert, rule.Expr, rule.Annotations["summary"])
			}
			for _, name := range asked {
				if _, there := names[name]; !there {
					t.Errorf("rule %s asks for %s, which does not exist", rule.Alert, name)
				}
			}
			for _, m := range regexp.MustCompile(`(holdfast_\w+)\{(\w+)`).FindAllStringSubmatch(rule.Expr, -1) {
				if !slices.Contains(names[m[1]].Labels, m[2]) {
					t.Errorf("rule %s asks for a label %s of %s, which has none", rule.Alert, m[2], m[1])
				}
			}
		}
	}
	if rules < 5 {
		t.Errorf("there are %d rules", rules)
	}
}

// What counting costs where it is done often.
func BenchmarkCounting(b *testing.B) {
	m := used()
	b.Run("apply", func(b *testing.B) {
		for b.Loop() {
			begun := time.Now()
			m.Applied(time.Since(begun), 1024)
		}
	})
	b.Run("http", func(b *testing.B) {
		for b.Loop() {
			m.HTTPBegun("restapi")
			m.HTTPAnswered("restapi", "/pins/{cid}", "POST", 200, time.Millisecond)
		}
	})
	b.Run("rpc", func(b *testing.B) {
		for b.Loop() {
			m.RPCCalls()
			m.RPCCalled("Cluster.Pin", "", time.Millisecond)
		}
	})
	b.Run("scrape", func(b *testing.B) {
		h := m.Handler()
		for b.Loop() {
			h.ServeHTTP(&discard{header: http.Header{}}, httptest.NewRequest("GET", "/metrics", nil))
		}
	})
}
