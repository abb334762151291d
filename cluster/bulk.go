package cluster

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

const (
	bulkInFlight = 4       // chunks that wait for their commit before the next is made
	bulkBytes    = 1 << 20 // of options in one chunk
	bulkResolves = 16      // paths that are looked up at a time
)

// Bulk carries out lines and yields a result for each, in their order. A line
// that fails does not stop the others. Lines that speak of the same CID are
// carried out one after the other, all others together: what waits at an
// instant goes to the leader as one chunk, some chunks at a time. It reads no
// further than that ahead of who takes the results.
//
// A chunk that got no answer is sent again under the request ids of its lines,
// to the next leader too. Bulk ends early when ctx does. It returns when lines
// has been left, so whoever ends ctx must see to it that lines does not block.
func (c *Cluster) Bulk(ctx context.Context, lines iter.Seq[api.BulkLine]) iter.Seq[api.BulkResult] {
	return func(yield func(api.BulkResult) bool) {
		ctx, cancel := context.WithCancel(ctx)
		b := &bulk{c: c, lines: make(chan *bulkLine, api.MaxBulkChunk), slots: make(chan struct{}, bulkInFlight),
			order: make(chan *bulkChunk, bulkInFlight), busy: map[cid.Cid]*bulkChunk{}}
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		running.Go(func() { b.read(ctx, lines) })
		running.Go(func() { b.form(ctx) })
		for chunk := range b.order {
			<-chunk.done
			if ctx.Err() != nil {
				return
			}
			for _, result := range chunk.results {
				if !yield(result) {
					return
				}
			}
			<-b.slots
		}
	}
}

// bulk is one bulk write on its way.
type bulk struct {
	c     *Cluster
	lines chan *bulkLine  // read, and in no chunk yet
	slots chan struct{}   // one for each chunk whose results are not taken
	order chan *bulkChunk // in the order of their lines

	busy    map[cid.Cid]*bulkChunk // who works on what; chunks that are done may be in it
	running []*bulkChunk           // the same chunks
	last    int                    // lines of the last chunk
}

// bulkLine is a line whose CID is known once ready is closed (nil: already).
type bulkLine struct {
	api.BulkLine
	ready chan struct{}
}

// bulkChunk are lines that are decided together; no two speak of one CID.
type bulkChunk struct {
	lines   []api.BulkLine
	size    int
	cids    []cid.Cid // that it changes or reads
	results []api.BulkResult
	done    chan struct{}
}

// read takes the lines in, and begins to look up paths.
func (b *bulk) read(ctx context.Context, lines iter.Seq[api.BulkLine]) {
	defer close(b.lines)
	var resolving sync.WaitGroup
	defer resolving.Wait()
	room := make(chan struct{}, bulkResolves)
	for line := range lines {
		item := &bulkLine{BulkLine: line}
		if line.Err == nil && !line.Cid.Defined() {
			item.ready = make(chan struct{})
			room <- struct{}{}
			resolving.Go(func() {
				defer func() { <-room }()
				defer close(item.ready)
				found, err := b.c.Resolve(ctx, item.Path)
				item.Cid, item.Err = found, api.AsError(err)
			})
		}
		select {
		case b.lines <- item:
		case <-ctx.Done():
			return
		}
	}
}

// form makes chunks of what waits, and starts them.
func (b *bulk) form(ctx context.Context) {
	defer close(b.order)
	var chunks sync.WaitGroup
	defer chunks.Wait()
	var next *bulkLine // did not fit into the last chunk
	for {
		if next == nil {
			next = <-b.lines
		}
		if next == nil || ctx.Err() != nil {
			return
		}
		if next.ready != nil {
			<-next.ready
		}
		select {
		case b.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		var chunk *bulkChunk
		chunk, next = b.gather(next)
		b.awaitOthers(chunk)
		b.order <- chunk // has room: there are as many places as slots
		chunks.Go(func() { chunk.run(ctx, b.c) })
	}
}

// gather returns a chunk that begins with first, and the line that it leaves
// for the next, if any. What comes until the oldest chunk on its way is done
// goes along: each chunk costs every peer a sync, so full ones are cheaper, and
// who sends one line at a time waits for nobody.
func (b *bulk) gather(first *bulkLine) (chunk *bulkChunk, rest *bulkLine) {
	// As many as the last time, most likely.
	chunk = &bulkChunk{done: make(chan struct{}), lines: make([]api.BulkLine, 0, b.last), cids: make([]cid.Cid, 0, b.last)}
	defer func() { b.last = len(chunk.lines) }()
	own := make(map[cid.Cid]bool, b.last)
	for line := first; line != nil; {
		if len(chunk.lines) > 0 && !line.fits(chunk, own) {
			return chunk, line
		}
		chunk.lines = append(chunk.lines, line.BulkLine)
		chunk.size += line.weight()
		for _, id := range line.subjects() {
			own[id] = true
			chunk.cids = append(chunk.cids, id)
		}
		select {
		case line = <-b.lines:
		default:
			line = b.await()
		}
	}
	return chunk, nil
}

// await returns the next line, or nil when the oldest chunk on its way is done
// before it comes, or none is on its way.
func (b *bulk) await() *bulkLine {
	for _, other := range b.running {
		select {
		case <-other.done:
			continue
		default:
		}
		select {
		case line := <-b.lines:
			return line
		case <-other.done:
		}
		return nil
	}
	return nil
}

// fits says whether a line may be decided together with those of a chunk.
func (l *bulkLine) fits(chunk *bulkChunk, own map[cid.Cid]bool) bool {
	if len(chunk.lines) == api.MaxBulkChunk || chunk.size+l.weight() > bulkBytes {
		return false
	}
	if l.ready != nil {
		select {
		case <-l.ready:
		default:
			return false // the others do not wait for its path
		}
	}
	for _, id := range l.subjects() {
		if own[id] {
			return false
		}
	}
	return true
}

// subjects are the CIDs that a line changes or reads.
func (l *bulkLine) subjects() []cid.Cid {
	switch {
	case l.Err != nil:
		return nil
	case l.Options.PinUpdate.Defined() && l.Import == nil:
		return []cid.Cid{l.Cid.Cid, l.Options.PinUpdate.Cid}
	}
	return []cid.Cid{l.Cid.Cid}
}

// weight is about how many bytes a line takes.
func (l *bulkLine) weight() int {
	o := l.Options
	n := 256 + len(o.Name) + 64*(len(o.Origins)+len(o.UserAllocations))
	for key, value := range o.Metadata {
		n += len(key) + len(value) + 16
	}
	if l.Import != nil {
		n += 64 * len(l.Import.Allocations)
	}
	return n
}

// awaitOthers waits for earlier chunks that speak of a CID of this one.
func (b *bulk) awaitOthers(chunk *bulkChunk) {
	running := b.running[:0]
	for _, other := range b.running {
		select {
		case <-other.done:
			for _, id := range other.cids {
				if b.busy[id] == other {
					delete(b.busy, id)
				}
			}
		default:
			running = append(running, other)
		}
	}
	clear(b.running[len(running):])
	b.running = append(running, chunk)
	for _, id := range chunk.cids {
		if other := b.busy[id]; other != nil && other != chunk {
			<-other.done
		}
		b.busy[id] = chunk
	}
}

// run has a chunk carried out, and fills in its results.
func (k *bulkChunk) run(ctx context.Context, c *Cluster) {
	defer close(k.done)
	k.results = make([]api.BulkResult, len(k.lines))
	ask := k.lines[:0] // those that can be read
	var places []int   // where their results belong
	for i, line := range k.lines {
		k.results[i] = api.BulkResult{Line: line.Line, Cid: line.Cid, Err: line.Err}
		if line.Err == nil {
			ask = append(ask, line)
			places = append(places, i)
		}
	}
	k.lines = nil
	if len(ask) == 0 {
		return
	}
	got, err := c.BulkChunk(ctx, ask)
	switch {
	case err != nil:
		for _, i := range places {
			k.results[i].Err = api.AsError(err)
		}
	case len(got) == len(k.results):
		k.results = got
	default:
		for j, i := range places {
			k.results[i] = got[j]
		}
	}
}

// doubt makes the refusals of a chunk that was sent before unknown outcomes:
// the earlier attempt may have carried the lines out. Only that there was
// nothing to unpin is certain, for an unpin that was carried out is remembered.
func doubt(lines []api.BulkLine, results []api.BulkResult) {
	for i, result := range results {
		if result.Err != nil && !(lines[i].Unpin && errors.Is(result.Err, api.ErrNotFound)) {
			results[i].Err = api.AsError(unknown(result.Err))
		}
	}
}

// BulkChunk carries out up to MaxBulkChunk lines, no two of which may speak of
// one CID, and returns their results in their order. An error is about all of
// them, and has the codes of Pin.
func (c *Cluster) BulkChunk(ctx context.Context, lines []api.BulkLine) ([]api.BulkResult, error) {
	for i := range lines {
		if lines[i].RequestID == "" {
			lines[i].RequestID = NewRequestID()
		}
	}
	ambiguous := false
	attempt := func(results []api.BulkResult, err error) ([]api.BulkResult, error) {
		ambiguous = ambiguous || errors.Is(err, api.ErrUnavailable) || errors.Is(err, api.ErrUnknownOutcome)
		return results, err
	}
	results, err := onLeader(ctx, c,
		func(ctx context.Context) ([]api.BulkResult, error) { return attempt(c.decideBulk(ctx, lines)) },
		func(ctx context.Context, leader peer.ID) ([]api.BulkResult, error) {
			return attempt(c.remote.Bulk(ctx, leader, lines))
		})
	if err == nil && len(results) != len(lines) {
		err = api.Errorf(api.CodeInternal, "the leader answered %d results to %d lines", len(results), len(lines))
	}
	if err == nil && ambiguous {
		doubt(lines, results)
	}
	for _, result := range results {
		c.sawWrite(result.Index)
	}
	return results, err
}
