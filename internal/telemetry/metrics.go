package telemetry

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// Family is a metric as the documents show it.
type Family struct {
	Name, Type, Help string
	Labels           []string
}

// The types of families.
const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

// Metrics are those of one peer. Nothing of it is global: a process may run
// several peers.
type Metrics struct {
	registry *prometheus.Registry
	families []Family
	source   atomic.Pointer[func() Picture]

	applied  prometheus.Observer
	commands prometheus.Counter
	http     httpMetrics
	rpc      rpcMetrics
}

// New returns metrics that nothing has happened in yet.
func New() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(newReader(m))
	m.applied = m.histogramVec("holdfast_apply_duration_seconds", "How long entries of the log took to be applied to the pinset; the count is that of the entries.",
		[]float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5}).WithLabelValues()
	m.commands = m.counterVec("holdfast_apply_commands_total", "Commands in the entries that were applied.").WithLabelValues()
	m.http = newHTTP(m)
	m.rpc = newRPC(m)
	return m
}

// Show makes source what is shown from now on beside what was counted. It is
// called at every scrape, by several goroutines at a time.
func (m *Metrics) Show(source func() Picture) { m.source.Store(&source) }

// Families are all metrics of ours, by name.
func (m *Metrics) Families() []Family {
	return slices.SortedFunc(slices.Values(m.families), func(a, b Family) int { return strings.Compare(a.Name, b.Name) })
}

// scrapesAtOnce bounds what scrapes can cost; further ones are answered 503.
const scrapesAtOnce = 4

// Handler answers scrapes. Beside this peer's metrics it shows those of the
// process, and what libp2p counts in it for all its hosts together.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(prometheus.Gatherers{m.registry, prometheus.GathererFunc(carried)},
		promhttp.HandlerOpts{MaxRequestsInFlight: scrapesAtOnce, ErrorHandling: promhttp.ContinueOnError})
}

// carriedOver begin the names of what is taken from the registry that all
// libraries of a process share. Kubo registers other things there, of which
// nothing that runs here counts anything.
var carriedOver = []string{"go_", "process_", "libp2p_"}

func carried() ([]*dto.MetricFamily, error) {
	all, err := prometheus.DefaultGatherer.Gather()
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool {
		return !slices.ContainsFunc(carriedOver, func(prefix string) bool { return strings.HasPrefix(f.GetName(), prefix) })
	}), err
}

func (m *Metrics) add(name, kind, help string, labels []string) {
	m.families = append(m.families, Family{Name: name, Type: kind, Help: help, Labels: labels})
}

func (m *Metrics) counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	m.add(name, counter, help, labels)
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) gaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	m.add(name, gauge, help, labels)
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	m.add(name, histogram, help, labels)
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(v)
	return v
}
