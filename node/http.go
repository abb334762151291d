package node

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	oldcmds "github.com/ipfs/kubo/commands"
	"github.com/ipfs/kubo/core"
	"github.com/ipfs/kubo/core/corehttp"

	"holdfast/api"
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

// RPC serves Kubo's own /api/v0. Whoever lets requests in checks Host,
// credentials and Origin, and deletes an Origin that it allows: one that is
// still there is refused. What would end or rebuild the node under us is
// refused too; repo/gc is ours, as Kubo's knows nothing of running fetches.
func (n *Node) RPC() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		command := strings.Trim(strings.TrimPrefix(r.URL.Path, corehttp.APIPath), "/")
		if r.Header.Get("Origin") != "" {
			http.Error(w, "403 - Forbidden", http.StatusForbidden)
			return
		}
		if why := refused[command]; why != "" {
			rpcError(w, http.StatusForbidden, command+": "+why)
			return
		}
		if command == "repo/gc" && r.Method == http.MethodPost {
			n.rpcGC(w, r)
			return
		}
		o, ctx, done, err := n.begin(r.Context(), "RPC "+command)
		if err != nil {
			rpcError(w, api.CodeOf(err).HTTPStatus(), err.Error())
			return
		}
		defer done()
		if writes(command) {
			release, err := n.gate.Lease(ctx, "RPC "+command, 0)
			if err != nil {
				rpcError(w, http.StatusServiceUnavailable, ended(ctx, err).Error())
				return
			}
			defer release()
		}
		o.rpc.ServeHTTP(w, r.WithContext(ctx))
	})
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
		o.gateway.ServeHTTP(w, r.WithContext(ctx))
	})
}

var refused = map[string]string{
	"shutdown":       "the node is part of this cluster peer; stop the peer instead",
	"update":         "the node is part of this program; update the program instead",
	"mount":          "an embedded node mounts nothing",
	"repo/migrate":   "the node is part of this program, which keeps its repository's version",
	"key/rotate":     "the cluster knows this node by its key",
	"config/replace": "the cluster sets the node's config",
}

// writes says whether a command takes Kubo's pin lock, so that garbage
// collection must be kept off before.
func writes(command string) bool {
	switch command {
	case "add", "block/put", "block/rm", "dag/put", "dag/import", "pin/add", "pin/rm", "pin/update",
		"files/cp", "files/mv", "files/rm", "files/mkdir", "files/write", "files/flush", "files/touch",
		"files/chcid", "files/chmod", "files/chroot":
		return true
	}
	return strings.HasPrefix(command, "object/patch/")
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
