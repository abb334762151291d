package node

import (
	"context"
	"sync"
	"time"

	"github.com/ipfs/boxo/exchange"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"holdfast/node/internal/dag"
)

const (
	rootBatch    = 512                     // roots asked for together
	rootParallel = 4                       // batches under way
	rootGather   = 2 * time.Millisecond    // bitswap takes ten times as long to answer
	rootPatience = 1500 * time.Millisecond // without any block: the rest of a batch is left to sessions of their own
)

// rootBatcher fetches the first blocks of many pins together: one request to
// bitswap and one write for all that wait at that instant. A root that nobody
// sends holds nobody up; it goes back to its caller.
type rootBatcher struct {
	wants chan rootWant
	slots chan struct{}

	mu     sync.Mutex
	shared *sharedSession
}

// sharedSession is a bitswap session of several batches.
type sharedSession struct {
	exchange.Fetcher
	end     context.CancelFunc
	users   int
	dropped bool // ends with its last user
}

type rootWant struct {
	cid  cid.Cid
	done chan<- blocks.Block // gets the block once it is stored, or nil; has room for it
}

func newRootBatcher() *rootBatcher {
	return &rootBatcher{wants: make(chan rootWant), slots: make(chan struct{}, rootParallel)}
}

// get returns the block of a root once it is in the store; false when no peer
// sent it in short time, and when it could not be stored.
func (r *rootBatcher) get(ctx context.Context, c cid.Cid) (blocks.Block, bool) {
	done := make(chan blocks.Block, 1)
	select {
	case r.wants <- rootWant{cid: c, done: done}:
	case <-ctx.Done():
		return nil, false
	}
	select {
	case b := <-done:
		return b, b != nil
	case <-ctx.Done():
		return nil, false
	}
}

// run serves get until ctx ends and everything it started is gone.
func (r *rootBatcher) run(ctx context.Context, n *Node, o *opened) {
	var batches sync.WaitGroup
	defer batches.Wait()
	for {
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wants, ok := r.collect(ctx)
		if !ok {
			return
		}
		batches.Go(func() {
			defer func() { <-r.slots }()
			r.fetch(ctx, n, o, wants)
		})
	}
}

// collect waits for one want and takes what else comes within rootGather.
func (r *rootBatcher) collect(ctx context.Context) (map[string][]rootWant, bool) {
	wants := map[string][]rootWant{}
	select {
	case w := <-r.wants:
		wants[dag.Key(w.cid)] = []rootWant{w}
	case <-ctx.Done():
		return nil, false
	}
	gather := time.NewTimer(rootGather)
	defer gather.Stop()
	for len(wants) < rootBatch {
		select {
		case w := <-r.wants:
			wants[dag.Key(w.cid)] = append(wants[dag.Key(w.cid)], w)
		case <-gather.C:
			return wants, true
		}
	}
	return wants, true
}

// fetch gets one batch.
func (r *rootBatcher) fetch(parent context.Context, n *Node, o *opened, wants map[string][]rootWant) {
	defer func() {
		for _, ws := range wants { // those that did not come
			for _, w := range ws {
				w.done <- nil
			}
		}
	}()
	session, leave := r.join(parent, o)
	ctx, cancel := context.WithCancel(parent)
	arrivals := make(chan blocks.Block, arrivalBuffer)
	feeders := newFeeders(session, arrivals)
	defer feeders.wait()
	defer cancel()
	cids := make([]cid.Cid, 0, len(wants))
	for _, ws := range wants {
		cids = append(cids, ws[0].cid)
	}
	if feeders.ask(ctx, cids) != nil {
		leave(false)
		return
	}
	patience := time.NewTimer(rootPatience)
	defer patience.Stop()
	for len(wants) > 0 {
		select {
		case b := <-arrivals:
			batch := gather(b, arrivals)
			if err := n.write(ctx, o, batch); err != nil {
				n.logger.Warn("could not store fetched blocks", "error", err)
				leave(true)
				return // the callers fetch for themselves, and get the error
			}
			n.counters.fetch(batch)
			for _, b := range batch {
				r.deliver(wants, b)
			}
			patience.Reset(rootPatience)
		case <-patience.C:
			leave(false)
			return
		case <-ctx.Done():
			leave(false)
			return
		}
	}
	leave(true)
}

func (r *rootBatcher) deliver(wants map[string][]rootWant, b blocks.Block) {
	for _, w := range wants[dag.Key(b.Cid())] {
		own, err := blocks.NewBlockWithCid(b.RawData(), w.cid)
		if err != nil {
			own = nil
		}
		w.done <- own
	}
	delete(wants, dag.Key(b.Cid()))
}

// join returns the session that batches share while it serves them well: it
// knows the peers that have things. Its user says at the end how it was.
func (r *rootBatcher) join(ctx context.Context, o *opened) (_ exchange.Fetcher, leave func(well bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shared == nil {
		sessionCtx, end := context.WithCancel(ctx)
		r.shared = &sharedSession{Fetcher: o.core.Bitswap.NewSession(sessionCtx), end: end}
	}
	s := r.shared
	s.users++
	return s, func(well bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		s.users--
		if !well {
			s.dropped = true
			if r.shared == s {
				r.shared = nil
			}
		}
		if s.dropped && s.users == 0 {
			s.end()
		}
	}
}
