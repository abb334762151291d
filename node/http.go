package node

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	oldcmds "github.com/ipfs/kubo/commands"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/corehttp"

	"holdfast/api"
	"holdfast/internal/kuborpc"
)

// noListener stands for the listener that Kubo's handlers ask for an address.
type noListener struct{}

func (noListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return &net.UnixAddr{Name: "in-process", Net: "unix"} }

func (n *Node) makeHandlers(o *opened) error {
	commands := oldcmds.Context{
		ConfigRoot:    n.config.Dir,
		ReqLog:        &oldcmds.ReqLog{},
		ConstructNode: func() (*core.IpfsNode, error) { return o.core, nil },
	}
	// It keeps what it makes without a lock: make it before requests come.
	if _, err := commands.GetAPI(); err != nil {
		return fmt.Errorf("make command context: %w", err)
	}
	var err error
	if o.rpc, err = corehttp.MakeHandler(o.core, noListener{}, corehttp.CommandsOption(commands)); err != nil {
		return fmt.Errorf("make RPC handler: %w", err)
	}
	o.gateway, err = corehttp.MakeHandler(o.core, noListener{},
		corehttp.HostnameOption(), corehttp.GatewayOption("/ipfs", "/ipns"), corehttp.VersionOption())
	if err != nil {
		return fmt.Errorf("make gateway handler: %w", err)
	}
	return nil
}

// RPC serves the commands of Kubo's /api/v0 that are the node's. Whoever lets
// requests in checks Host, credentials and Origin, and deletes an Origin that
// it allows: one that is still there is refused. So are the cluster's commands
// and those that would end, open or rebuild the node under us, however their
// path is written: only the canonical form of a request reaches Kubo. repo/gc
// is ours, as Kubo's knows nothing of running fetches.
func (n *Node) RPC() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Origin") != "" {
			http.Error(w, "403 - Forbidden", http.StatusForbidden)
			return
		}
		if r.Method != http.MethodPost {
			n.command(w, kuborpc.Harmless(r), kuborpc.Call{Name: r.Method})
			return
		}
		call, ok := kuborpc.Resolve(r)
		switch {
		case !ok:
			kuborpc.NotFound(w)
		case call.Name == "repo/gc":
			n.rpcGC(w, call.Request(r))
		case call.Name == "swarm/connect" && n.refuseConnect(w, call.Request(r)):
		case call.By == kuborpc.Node:
			n.command(w, call.Request(r), call)
		case call.By == kuborpc.Cluster:
			call.Why = "the cluster decides what its nodes keep; ask the IPFS API proxy"
			call.Refuse(w)
		default:
			call.Refuse(w)
		}
	})
}

// command lets Kubo answer a request in canonical form.
func (n *Node) command(w http.ResponseWriter, r *http.Request, call kuborpc.Call) {
	o, ctx, done, err := n.begin(r.Context(), "RPC "+call.Name)
	if err != nil {
		rpcError(w, api.CodeOf(err).HTTPStatus(), err.Error())
		return
	}
	defer done()
	if call.Locks {
		// Kubo's pin lock is taken: garbage collection must be kept off before.
		release, err := n.gate.Lease(ctx, "RPC "+call.Name, 0)
		if err != nil {
			rpcError(w, http.StatusServiceUnavailable, ended(ctx, err).Error())
			return
		}
		defer release()
	}
	ctx, end := n.watchReads(ctx, o)
	defer end()
	o.rpc.ServeHTTP(w, r.WithContext(ctx))
}

// Gateway serves /ipfs and /ipns, read-only: what is local, and with
// GatewayFetch also what connected peers have.
func (n *Node) Gateway() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o, ctx, done, err := n.begin(r.Context(), "gateway "+r.URL.Path)
		if err != nil {
			http.Error(w, err.Error(), api.CodeOf(err).HTTPStatus())
			return
		}
		defer done()
		ctx, end := n.watchReads(ctx, o)
		defer end()
		aborted(ctx, o.gateway, w, r.WithContext(ctx))
	})
}

// rpcError answers as Kubo's command handler does.
func rpcError(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"Message": message, "Code": 0, "Type": "error"})
}

// rpcGC is repo/gc in Kubo's form: a line for each removed block. With
// stream-errors, errors are lines too; otherwise the first ends it.
func (n *Node) rpcGC(w http.ResponseWriter, r *http.Request) {
	type link struct {
		Cid string `json:"/"`
	}
	type line struct {
		Key   *link
		Error string `json:",omitempty"`
	}
	streamErrors := r.URL.Query().Get("stream-errors") == "true"
	silent := r.URL.Query().Get("silent") == "true"
	out, started := json.NewEncoder(w), false
	start := func() {
		if !started {
			started = true
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Chunked-Output", "1")
			w.Header().Set("Trailer", "X-Stream-Error")
		}
	}
	flushed := time.Now()
	err := n.GC(r.Context(), func(k api.RepoGCKey) {
		if silent || (k.Error != "" && !streamErrors) {
			return
		}
		start()
		l := line{Error: k.Error}
		if k.Key.Defined() {
			l.Key = &link{k.Key.String()}
		}
		_ = out.Encode(l) // a client that went away ends r.Context()
		if time.Since(flushed) > 200*time.Millisecond {
			flushed = time.Now()
			_ = http.NewResponseController(w).Flush()
		}
	})
	switch {
	case err == nil:
		start()
	case started:
		w.Header().Set("X-Stream-Error", err.Error())
	default:
		rpcError(w, api.CodeOf(err).HTTPStatus(), err.Error())
	}
}
