package telemetry

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/api"
)

// Applied counts an entry of the log.
func (m *Metrics) Applied(took time.Duration, commands int) {
	m.applied.Observe(took.Seconds())
	m.commands.Add(float64(commands))
}

// series are the counters of one set of labels each, found without work on the
// labels' texts. There are as many as the code has names for, times a few.
type series[K comparable, V any] struct {
	mu   sync.RWMutex
	of   map[K]*V
	make func(K) *V
}

func (s *series[K, V]) get(key K) *V {
	s.mu.RLock()
	v := s.of[key]
	s.mu.RUnlock()
	if v != nil {
		return v
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[K]*V{}
	}
	if s.of[key] == nil {
		s.of[key] = s.make(key)
	}
	return s.of[key]
}

// durations fit what a peer answers itself and what it asks others for.
var durations = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120}

type answerKey struct {
	listener, route, method string
	status                  int
}

type answerSeries struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
}

type httpMetrics struct {
	answers  series[answerKey, answerSeries]
	inFlight series[string, prometheus.Gauge]
	refused  *prometheus.CounterVec
}

func newHTTP(m *Metrics) httpMetrics {
	requests := m.counterVec("holdfast_http_requests_total", "Requests that were answered, by listener, template of the route, method and status.", "listener", "route", "method", "code")
	seconds := m.histogramVec("holdfast_http_request_duration_seconds", "How long requests took until their answer had been given.", durations, "listener", "route", "method")
	inFlight := m.gaugeVec("holdfast_http_requests_in_flight", "Requests that are being answered.", "listener")
	return httpMetrics{
		answers: series[answerKey, answerSeries]{make: func(k answerKey) *answerSeries {
			return &answerSeries{requests.WithLabelValues(k.listener, k.route, k.method, strconv.Itoa(k.status)), seconds.WithLabelValues(k.listener, k.route, k.method)}
		}},
		inFlight: series[string, prometheus.Gauge]{make: func(listener string) *prometheus.Gauge {
			g := inFlight.WithLabelValues(listener)
			return &g
		}},
		refused: m.counterVec("holdfast_http_refused_total", "What was refused before anything was done for it, by reason: credentials, throttle, host (a foreign Host or Origin) or connections (no room).", "listener", "reason"),
	}
}

// HTTPListens makes a listener's counters appear before there is anything to count.
func (m *Metrics) HTTPListens(listener string) {
	m.http.inFlight.get(listener)
	for _, reason := range []string{"credentials", "throttle", "host", "connections"} {
		m.http.refused.WithLabelValues(listener, reason)
	}
}

// HTTPBegun counts a request that is being answered.
func (m *Metrics) HTTPBegun(listener string) { (*m.http.inFlight.get(listener)).Inc() }

// HTTPAnswered counts the end of one. route is a template of the code's, or "".
func (m *Metrics) HTTPAnswered(listener, route, method string, status int, took time.Duration) {
	(*m.http.inFlight.get(listener)).Dec()
	if route == "" {
		route = "other"
	}
	s := m.http.answers.get(answerKey{listener, route, knownMethod(method), knownStatus(status)})
	s.requests.Inc()
	s.seconds.Observe(took.Seconds())
}

// HTTPRefused counts a request, or a connection, that was turned away.
func (m *Metrics) HTTPRefused(listener, reason string) {
	m.http.refused.WithLabelValues(listener, reason).Inc()
}

func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

func knownStatus(status int) int {
	if http.StatusText(status) == "" {
		return http.StatusInternalServerError
	}
	return status
}

type callKey struct {
	method string
	code   api.Code // "": none, it went well
}

type callSeries struct {
	requests prometheus.Counter
	seconds  prometheus.Observer
}

type rpcMetrics struct {
	calls, served    series[callKey, callSeries]
	calling, serving prometheus.Gauge
	strangers        prometheus.Counter
}

func newRPC(m *Metrics) rpcMetrics {
	requests := m.counterVec("holdfast_rpc_client_requests_total", "Questions to other peers that ended, by method and by the code of the error, or ok.", "method", "code")
	seconds := m.histogramVec("holdfast_rpc_client_request_duration_seconds", "How long questions to other peers took.", durations, "method")
	calling := m.gaugeVec("holdfast_rpc_client_requests_in_flight", "Questions to other peers that are not answered yet.")
	served := m.counterVec("holdfast_rpc_server_requests_total", "Questions of other members that ended, by method and result: ok, or failed if no answer could be given; an answer that is an error is counted with its code where it was asked.", "method", "result")
	serving := m.gaugeVec("holdfast_rpc_server_requests_in_flight", "Questions of other members that are being answered.")
	took := m.histogramVec("holdfast_rpc_server_request_duration_seconds", "How long answers to other members took.", durations, "method")
	strangers := m.counterVec("holdfast_rpc_strangers_refused_total", "Questions of those who are no members, which were not read.")
	return rpcMetrics{
		calls: series[callKey, callSeries]{make: func(k callKey) *callSeries {
			code := string(k.code)
			if code == "" {
				code = "ok"
			}
			return &callSeries{requests.WithLabelValues(k.method, code), seconds.WithLabelValues(k.method)}
		}},
		served: series[callKey, callSeries]{make: func(k callKey) *callSeries {
			result := "ok"
			if k.code != "" {
				result = "failed"
			}
			return &callSeries{served.WithLabelValues(k.method, result), took.WithLabelValues(k.method)}
		}},
		calling: calling.WithLabelValues(), serving: serving.WithLabelValues(), strangers: strangers.WithLabelValues(),
	}
}

// RPCCalls counts a question to another peer that begins.
func (m *Metrics) RPCCalls() { m.rpc.calling.Inc() }

// RPCCalled counts the end of one, with the code of its error, or "".
func (m *Metrics) RPCCalled(method string, code api.Code, took time.Duration) {
	m.rpc.calling.Dec()
	if code != "" {
		code = known(code)
	}
	s := m.rpc.calls.get(callKey{method, code})
	s.requests.Inc()
	s.seconds.Observe(took.Seconds())
}

// RPCServes counts a question of another peer that begins.
func (m *Metrics) RPCServes() { m.rpc.serving.Inc() }

// RPCServed counts the end of one.
func (m *Metrics) RPCServed(method string, failed bool, took time.Duration) {
	m.rpc.serving.Dec()
	key := callKey{method: method}
	if failed {
		key.code = api.CodeInternal
	}
	s := m.rpc.served.get(key)
	s.requests.Inc()
	s.seconds.Observe(took.Seconds())
}

// RPCRefused counts a stranger that was turned away.
func (m *Metrics) RPCRefused() { m.rpc.strangers.Inc() }
