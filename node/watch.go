package node

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	ds "github.com/ipfs/go-datastore"
)

// readWatch ends a request one of whose blocks cannot be read here. Kubo takes
// any such block for one that it does not have, and asks other nodes for it,
// without an end.
type readWatch struct {
	cancel context.CancelCauseFunc // the request
	wait   time.Duration           // for others to send the block
	has    func(block ds.Key) bool

	mu     sync.Mutex
	timers map[ds.Key]*time.Timer
}

type readWatchKey struct{}

// watchReads makes a request's context one that ends, with the reason, when a
// block could be had neither from the disk nor, within StallTimeout, from
// another node. end releases what it holds.
func (n *Node) watchReads(ctx context.Context, o *opened) (watched context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &readWatch{cancel: cancel, wait: n.config.StallTimeout, timers: map[ds.Key]*time.Timer{}, has: func(block ds.Key) bool {
		has, err := o.store.Has(ctx, block)
		return err == nil && has
	}}
	return context.WithValue(ctx, readWatchKey{}, w), func() {
		cancel(nil)
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, t := range w.timers {
			t.Stop()
		}
	}
}

// readFailed is told of a block that could not be read for whoever has this context.
func readFailed(ctx context.Context, block ds.Key, why error, online bool) {
	w, ok := ctx.Value(readWatchKey{}).(*readWatch)
	if !ok {
		return
	}
	if !online {
		w.cancel(why)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timers[block] == nil && ctx.Err() == nil {
		w.timers[block] = time.AfterFunc(w.wait, func() {
			if !w.has(block) {
				w.cancel(why)
			}
		})
	}
}

// aborted serves a request of the gateway, and breaks its connection off where
// the answer began well and could not be completed: the gateway ends it as if
// all of it had been sent.
func aborted(ctx context.Context, serve http.Handler, w http.ResponseWriter, r *http.Request) {
	seen := &statusWriter{ResponseWriter: w}
	serve.ServeHTTP(seen, r)
	if ctx.Err() != nil && seen.status < http.StatusBadRequest {
		panic(http.ErrAbortHandler)
	}
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int // 0: none yet
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 || w.status < http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// ReadFrom keeps the way of files into the network short.
func (w *statusWriter) ReadFrom(r io.Reader) (int64, error) { return io.Copy(w.ResponseWriter, r) }

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush sends what there is.
func (w *statusWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }
