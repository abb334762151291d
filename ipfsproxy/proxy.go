package ipfsproxy

import (
	"context"
	"iter"
	"log/slog"
	"mime/multipart"
	"net/http"
	"strings"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/internal/drain"
	"holdfast/internal/kuborpc"
	httproute "holdfast/internal/route"
	"holdfast/internal/spool"
)

// Pinset is what the proxy asks of the cluster's pins.
type Pinset interface {
	Pin(ctx context.Context, request api.PinRequest) (api.PinResult, error)
	Unpin(ctx context.Context, request api.UnpinRequest) (api.PinResult, error)
	// Resolve finds the CID of a path that begins with /ipfs/, /ipns/ or /ipld/.
	Resolve(ctx context.Context, path string) (api.Cid, error)
	Allocation(ctx context.Context, c api.Cid) (api.Pin, error)
	Allocations(ctx context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error]
}

// Reads is how the proxy sees to it that this peer has caught up.
type Reads interface {
	// ReadAt returns once reads show what is asked for.
	ReadAt(ctx context.Context, at api.ReadPoint) (uint64, error)
}

// Repos is what the proxy asks of the peers' repositories.
type Repos interface {
	RepoStat(ctx context.Context) (api.RepoStat, error) // summed over the peers
	RepoGC(ctx context.Context, local bool) (api.GlobalRepoGC, error)
}

// Service is what the proxy asks of the cluster.
type Service interface {
	Pinset
	Reads
	Repos
}

// Adder turns an upload into a pinned DAG. It calls emit from one goroutine at
// a time; an error of emit ends the add.
type Adder interface {
	Add(ctx context.Context, upload *multipart.Reader, params api.AddParams, emit func(api.AddedOutput) error) error
}

// Deps are what a proxy works with.
type Deps struct {
	Service Service
	Adder   Adder
	Node    http.Handler // the RPC API of this peer's IPFS node, under /api/v0
	// Lease holds garbage collection off on this peer until release is called;
	// nil: nothing is collected.
	Lease func(ctx context.Context) (release func(), err error)
	// Spools keep answers that cannot go to their clients yet. nil: some of them,
	// in memory.
	Spools *spool.Store
	Logger *slog.Logger // nil: silent
}

// Config of a proxy.
type Config struct {
	Self peer.ID // this peer: preferred for what clients put into its node
}

// proxy answers what concerns pins and hands the rest to the node.
type proxy struct {
	deps    Deps
	self    peer.ID
	mu      sync.Mutex
	verdict map[visitor]verdict
}

// New returns the handler of the whole API. Only POST requests are answered
// here: the node refuses GET, which any web page could send.
func New(deps Deps, config Config) http.Handler {
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Spools == nil {
		deps.Spools = spool.InMemory()
	}
	if deps.Lease == nil {
		deps.Lease = func(context.Context) (func(), error) { return func() {}, nil }
	}
	return drain.Handler(&proxy{deps: deps, self: config.Self, verdict: make(map[visitor]verdict)})
}

// route is one command that the cluster answers.
type route struct {
	options []option
	args    []string // names of the required arguments
	stdin   bool     // arguments may come in the body too, one per line
	file    string   // name of the required file argument
	run     func(p *proxy, ctx context.Context, c *call, a *answer) error
}

// routes are the commands that are the cluster's by kuborpc's table, some of
// them in some forms only.
var routes = map[string]route{
	"pin/add":    {options: pinAddOptions, args: []string{"ipfs-path"}, stdin: true, run: (*proxy).pinAdd},
	"pin/rm":     {options: pinRmOptions, args: []string{"ipfs-path"}, stdin: true, run: (*proxy).pinRm},
	"pin/ls":     {options: pinLsOptions, run: (*proxy).pinLs},
	"pin/update": {options: pinUpdateOptions, args: []string{"from-path", "to-path"}, run: (*proxy).pinUpdate},
	"add":        {options: addOptions, file: "path", run: (*proxy).add},
	"repo/stat":  {options: repoStatOptions, run: (*proxy).repoStat},
	"repo/gc":    {options: repoGCOptions, run: (*proxy).repoGC},
	"block/put":  {options: putOptions, file: "data", run: (*proxy).put},
	"dag/put":    {options: putOptions, file: "object data", run: (*proxy).put},
	"dag/import": {options: importOptions, file: "path", run: (*proxy).dagImport},
}

// ServeHTTP answers one request, or hands its canonical form to the node.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.URL.Path, kuborpc.Root+"/") {
		http.NotFound(w, r)
		return
	}
	out := newOutlet(w, r, p.deps.Spools)
	defer out.close()
	call, ok := kuborpc.Resolve(r)
	found, routed := routes[call.Name]
	if ok {
		httproute.Serves(r, kuborpc.Root+"/"+call.Name)
	}
	switch {
	case r.Method != http.MethodPost:
		p.deps.Node.ServeHTTP(out, kuborpc.Harmless(r))
	case ok && call.By == kuborpc.Node:
		p.deps.Node.ServeHTTP(out, call.Request(r))
	case ok && call.By == kuborpc.Cluster && routed:
		p.answer(out, call.Request(r), call.Name, found)
	default:
		out.refuse(call, ok)
	}
	out.end()
}

// answer runs a command of the cluster's.
func (p *proxy) answer(w *outlet, r *http.Request, command string, found route) {
	later, admitted := p.admit(w, r)
	if !admitted {
		return
	}
	c, err := parse(r, found)
	if err != nil {
		// Kubo answers in plain text until it knows which command it runs.
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	copyHeader(w.Header(), later)
	if err := c.checkEncoding(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := c.deadline(r.Context())
	defer cancel()
	a := &answer{w: w, spools: p.deps.Spools, text: c.text("encoding") == "text", stream: c.on("stream", false) || c.on("progress", false) || c.on("stream-errors", false)}
	defer a.close()
	if err := found.run(p, ctx, c, a); err != nil {
		p.deps.Logger.Debug("a proxied command failed", "command", command, "error", err)
		a.fail(err)
		return
	}
	a.finish()
}
