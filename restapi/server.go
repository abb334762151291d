package restapi

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"holdfast/api"
	"holdfast/internal/drain"
	"holdfast/internal/route"
	"holdfast/internal/spool"

	"github.com/gorilla/mux"
)

// Config is what New may be told; its zero value works.
type Config struct {
	// Logger gets faults of ours with their request id, and every request at
	// level debug. nil: nothing is logged.
	Logger *slog.Logger
	// Stopping is closed when requests that would never end shall. nil: never.
	Stopping <-chan struct{}
	// Spools keep answers that cannot go to their clients yet. nil: some of them,
	// in memory.
	Spools *spool.Store
	// Metrics answers GET /metrics. nil: there is no such route.
	Metrics http.Handler
}

type server struct {
	service Service
	adder   Adder
	stop    <-chan struct{}
	metrics http.Handler
	log     *slog.Logger
	spools  *spool.Store
	router  *mux.Router

	encoders sync.Pool // of *encoder
}

// New returns the handler of every route. Listening, TLS, credentials, CORS
// and host checks are its caller's.
func New(service Service, adder Adder, config Config) http.Handler {
	s := &server{service: service, adder: adder, stop: config.Stopping, metrics: config.Metrics, log: config.Logger, spools: config.Spools, router: mux.NewRouter().SkipClean(true).UseEncodedPath()}
	s.encoders.New = func() any { return newEncoder() }
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.spools == nil {
		s.spools = spool.InMemory()
	}
	s.routes()
	return drain.Handler(http.HandlerFunc(s.serve))
}

func (s *server) routes() {
	get := func(path string, h http.HandlerFunc) {
		s.router.HandleFunc(path, h).Methods(http.MethodGet, http.MethodHead)
	}
	read := func(path string, h http.HandlerFunc) { get(path, s.read(h)) }
	post := func(path string, h http.HandlerFunc) { s.router.HandleFunc(path, h).Methods(http.MethodPost) }
	del := func(path string, h http.HandlerFunc) { s.router.HandleFunc(path, h).Methods(http.MethodDelete) }

	get("/health", alive)
	get("/health/ready", readiness(s.service))
	get("/health/alerts", s.alerts)
	read("/id", s.id)
	get("/version", s.version)
	if s.metrics != nil {
		get("/metrics", s.metrics.ServeHTTP)
	}
	read("/peers", s.peers)
	post("/peers", s.addPeer)
	del("/peers/{peer}", s.removePeer)
	post("/peers/{peer}/promote", s.setRole(api.RoleVoter))
	post("/peers/{peer}/demote", s.setRole(api.RoleLearner))
	post("/peers/{peer}/auto", s.setRole(api.RoleAuto))
	post("/peers/{peer}/lead", s.transferLeadership)
	post("/ipfs/gc", s.repoGC)

	post("/add", s.add)
	read("/allocations", s.allocations)
	read("/allocations/{cid}", s.allocation)
	read("/changes", s.changes)

	read("/pins", s.statusAll)
	post("/pins", s.bulk)
	post("/pins/recover", s.recoverAll)
	post("/pins/{cid}/recover", s.recover)
	read("/pins/{cid}", s.status)
	post("/pins/{cid}", s.pin)
	del("/pins/{cid}", s.unpin)
	post("/pins/{space:ipfs|ipns|ipld}/{path:.+}", s.pinPath)
	del("/pins/{space:ipfs|ipns|ipld}/{path:.+}", s.unpinPath)

	s.router.Use(nameRoute)
	s.router.NotFoundHandler = http.HandlerFunc(s.notFound)
	s.router.MethodNotAllowedHandler = http.HandlerFunc(s.methodNotAllowed)
}

// nameRoute tells who measures requests which route serves one.
func nameRoute(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if template, err := mux.CurrentRoute(r).GetPathTemplate(); err == nil {
			route.Serves(r, template)
		}
		next.ServeHTTP(w, r)
	})
}

// serve gives the request an id, sends a path that ends in a slash to the one
// without, and routes the rest.
func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	rec := &recorder{ResponseWriter: w}
	id := traceID(r)
	rec.Header().Set(headerRequestID, id)
	rec.Header().Set("Content-Type", "application/json")
	defer func() { // also when the answer is cut off
		s.log.Debug("request", "request_id", id, "method", r.Method, "path", r.URL.Path, "status", rec.status,
			"bytes", rec.bytes, "took", time.Since(began))
	}()
	if at := r.URL.EscapedPath(); at != "/" && strings.HasSuffix(at, "/") {
		redirectSlash(rec, r)
	} else {
		s.router.ServeHTTP(rec, r)
	}
}

// pathVar is a part of the path that a route names. Routes match the path as it
// was sent, in which a slash or a line feed of a name is not one of the path.
func pathVar(r *http.Request, name string) string { return unescaped(mux.Vars(r)[name]) }

func unescaped(text string) string {
	plain, err := url.PathUnescape(text)
	if err != nil {
		return text // cannot be: net/http has unescaped it before
	}
	return plain
}

// redirectSlash keeps one leading slash only: "//host/" must not lead to
// another host.
func redirectSlash(w http.ResponseWriter, r *http.Request) {
	target := url.URL{Path: "/" + strings.Trim(r.URL.Path, "/"), RawPath: "/" + strings.Trim(r.URL.EscapedPath(), "/"), RawQuery: r.URL.RawQuery}
	w.Header().Del("Content-Type") // the body is HTML, for a person who looks
	http.Redirect(w, r, target.String(), http.StatusTemporaryRedirect)
}

func (s *server) notFound(w http.ResponseWriter, r *http.Request) {
	s.fail(w, r, api.Errorf(api.CodeNotFound, "there is nothing at %s", r.URL.Path))
}

// methodNotAllowed answers 405, which no api code stands for: the reason is
// "unsupported".
func (s *server) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	allowed := s.methodsOf(r)
	w.Header().Set("Allow", allowed)
	writeError(w, http.StatusMethodNotAllowed,
		api.Errorf(api.CodeUnsupported, "%s is not possible on %s; use %s", r.Method, r.URL.Path, allowed))
}

func (s *server) methodsOf(r *http.Request) string {
	var out []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Header: r.Header, Host: r.Host}
		var match mux.RouteMatch
		if s.router.Match(probe, &match) && match.MatchErr == nil {
			out = append(out, method)
		}
	}
	return strings.Join(out, ", ")
}

// recorder counts what was answered. Unwrap lets http.ResponseController
// reach what is beneath.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(data []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(data)
	r.bytes += int64(n)
	return n, err
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
