package node

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/ipfs/boxo/blockstore"
	pinner "github.com/ipfs/boxo/pinning/pinner"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"

	"holdfast/api"
	"holdfast/node/internal/dag"
)

// markAhead is how many CIDs of pins wait for the marking at a time.
const markAhead = 4096

// root is where a marking begins.
type root struct {
	cid cid.Cid
	// whole says that all below it is here, because it is pinned: what is
	// missing hides what it links to, and nothing can be collected then.
	whole bool
	// wanted says that it is kept because the cluster asks for it, whether or not
	// it can ever be pinned.
	wanted bool
}

// mark finds all that must be kept: what can be reached from the roots. The
// links of blocks that are damaged, or that a whole root misses, are not known,
// which is an error. So are those of a block whose codec nobody here decodes,
// unless it is only wanted: such a pin has failed, and nothing below was fetched
// for it. A block that is no good by its codec links to nothing. (INV-PINNED)
type mark struct {
	read func(context.Context, cid.Cid) (blocks.Block, error)

	mu     sync.Mutex
	change *sync.Cond
	stack  []root  // to be looked at, once each
	kept   dag.Set // as blocks are stored
	seen   dag.Set // CIDs of inner blocks, as one block may have two codecs
	busy   int
	closed bool // no more roots come
	failed error
}

func newMark(read func(context.Context, cid.Cid) (blocks.Block, error)) *mark {
	m := &mark{read: read}
	m.change = sync.NewCond(&m.mu)
	return m
}

// run marks from the roots that feed adds, until all is marked or a step failed.
func (m *mark) run(ctx context.Context, feed func(add func(root) bool) error) error {
	m.closed = false
	stop := context.AfterFunc(ctx, func() { m.fail(ctx.Err()) })
	defer stop()
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() { m.work(ctx) })
	}
	err := feed(m.add)
	m.mu.Lock()
	m.closed = true
	if m.failed == nil {
		m.failed = err
	}
	m.change.Broadcast()
	m.mu.Unlock()
	workers.Wait()
	return m.failed
}

// add takes a root once there is room; false when the marking has failed.
func (m *mark) add(r root) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.stack) >= markAhead && m.failed == nil {
		m.change.Wait()
	}
	m.push(r)
	m.change.Signal()
	return m.failed == nil
}

// push keeps a CID and schedules it, unless that was done before. The lock is held.
func (m *mark) push(r root) {
	m.kept.VisitBlock(r.cid)
	if r.cid.Type() != cid.Raw && m.seen.Visit(r.cid) {
		m.stack = append(m.stack, r)
	}
}

func (m *mark) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil {
		m.failed = err
	}
	m.change.Broadcast()
}

func (m *mark) work(ctx context.Context) {
	for {
		r, ok := m.next()
		if !ok {
			return
		}
		links, err := m.linksOf(ctx, r)
		if err != nil {
			m.fail(err)
		}
		m.mu.Lock()
		for _, c := range links {
			m.push(root{c, r.whole, r.wanted})
		}
		m.busy--
		m.change.Broadcast()
		m.mu.Unlock()
	}
}

func (m *mark) next() (root, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.failed == nil && len(m.stack) == 0 && (m.busy > 0 || !m.closed) {
		m.change.Wait()
	}
	if m.failed != nil || len(m.stack) == 0 {
		return root{}, false
	}
	r := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	m.busy++
	return r, true
}

func (m *mark) linksOf(ctx context.Context, r root) ([]cid.Cid, error) {
	if err := dag.CheckCodec(r.cid); err != nil {
		if r.wanted {
			return nil, nil
		}
		return nil, fmt.Errorf("what is kept on this node leads to a block that it cannot follow; unpin that in the node itself (ipfs pin ls shows its pins): %w", err)
	}
	b, ok := dag.Identity(r.cid)
	if !ok {
		var err error
		b, err = m.read(ctx, r.cid)
		var damaged *damagedError
		switch {
		case err == nil:
		case isMissing(err) && !errors.As(err, &damaged) && !r.whole:
			return nil, nil
		case isMissing(err) && !errors.As(err, &damaged):
			return nil, &holeError{r.cid}
		default:
			return nil, fmt.Errorf("read block %s: %w", r.cid, err)
		}
	}
	links, err := dag.Links(b)
	if err != nil && api.CodeOf(err) == api.CodeInvalid {
		return nil, nil // the block is kept, and has no links
	}
	return links, err
}

// holeError says that a block of a pin is not there.
type holeError struct{ cid cid.Cid }

func (e *holeError) Error() string {
	return fmt.Sprintf("block %s of a pin is missing, so what it links to is not known", e.cid)
}

// Unwrap gives it a code.
func (e *holeError) Unwrap() error { return api.ErrUnavailable }

// markAll marks what must be kept, the strictest first, as a CID is looked at
// once: what is pinned, then MFS, then what the cluster wants.
func (n *Node) markAll(ctx context.Context, o *opened) (*mark, error) {
	m := newMark(o.read)
	for _, roots := range []struct {
		what string
		of   func(context.Context, *opened, func(root) bool) error
	}{{"list pins", pinnedRoots}, {"list pins", lentRoots}, {"read MFS root", fileRoots}, {"list what is wanted", n.wantedRoots}} {
		err := m.run(ctx, func(add func(root) bool) error {
			if err := roots.of(ctx, o, add); err != nil {
				return fmt.Errorf("%s: %w", roots.what, err)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// pinnedRoots are Kubo's pins.
func pinnedRoots(ctx context.Context, o *opened, add func(root) bool) error {
	for _, pins := range []struct {
		list      func(context.Context, bool) <-chan pinner.StreamedPin
		recursive bool
	}{{o.core.Pinning.RecursiveKeys, true}, {o.core.Pinning.DirectKeys, false}, {o.core.Pinning.InternalPins, true}} {
		if err := addPins(ctx, pins.list, pins.recursive, add); err != nil {
			return err
		}
	}
	return nil
}

func addPins(ctx context.Context, list func(context.Context, bool) <-chan pinner.StreamedPin, recursive bool, add func(root) bool) error {
	ctx, cancel := context.WithCancel(ctx) // ends the list where it is left early
	defer cancel()
	for p := range list(ctx, false) {
		if p.Err != nil {
			return p.Err
		}
		c := p.Pin.Key
		if !recursive {
			c = cid.NewCidV1(cid.Raw, c.Hash())
		}
		if !add(root{cid: c, whole: true}) {
			return nil
		}
	}
	return ctx.Err() // a list that is cut short does not say so
}

// sweep removes what nothing keeps, while everybody else waits, and tells how
// many blocks of how many. Nothing is removed unless all that must be kept is
// known for sure.
func (n *Node) sweep(ctx context.Context, o *opened, report func(api.RepoGCKey)) (removed, total int, err error) {
	reopen, err := n.gate.Exclude(ctx, gcPatience, gcLimit)
	if err != nil {
		return 0, 0, err
	}
	defer reopen()
	// Those who do not know the gate: MFS, and Kubo's own commands.
	defer o.core.Blockstore.GCLock(ctx).Unlock(ctx)
	m, err := n.markAll(ctx, o)
	var hole *holeError
	if errors.As(err, &hole) {
		// It is fetched again like any other damage, and also on a full disk: until
		// it was, nothing can be collected.
		err = errors.Join(err, o.damage.hole(ctx, blockKey(hole.cid)))
	}
	if err != nil {
		return 0, 0, fmt.Errorf("nothing is removed, as it is not known what must be kept: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx) // ends the listing when report panics
	defer cancel()
	keys, ended, err := allKeys(ctx, o.core.Blockstore)
	if err != nil {
		return 0, 0, fmt.Errorf("list blocks: %w", err)
	}
	var failed error
	for c := range keys {
		total++
		if m.kept.HasBlock(c) {
			continue
		}
		size, _ := o.store.Datastore.GetSize(ctx, blockKey(c)) // a damaged one may have none
		if err := o.remove(ctx, c); err != nil {
			failed = fmt.Errorf("remove block %s: %w", c, err)
			report(api.RepoGCKey{Key: api.NewCid(c), Error: err.Error()})
			continue
		}
		removed++
		n.counters.removed(size)
		report(api.RepoGCKey{Key: api.NewCid(c)})
	}
	for _, c := range o.damage.list() { // what is not even listed
		if !m.kept.HasBlock(c) {
			failed = errors.Join(failed, o.store.Delete(ctx, blockKey(c)))
		}
	}
	return removed, total, errors.Join(failed, ended(), ctx.Err())
}

// allKeys lists the blocks. ended tells, once the list is read, whether it was cut short.
func allKeys(ctx context.Context, store blockstore.Blockstore) (keys <-chan cid.Cid, ended func() error, err error) {
	if s, ok := store.(blockstore.AllKeysChanWithErrer); ok {
		return s.AllKeysChanWithErr(ctx)
	}
	keys, err = store.AllKeysChan(ctx)
	return keys, func() error { return nil }, err
}

// remove deletes a block, also one that counts as missing already.
func (o *opened) remove(ctx context.Context, c cid.Cid) error {
	err := o.core.Blockstore.DeleteBlock(ctx, c)
	if err == nil && o.damage.known(blockKey(c)) != nil {
		err = o.store.Delete(ctx, blockKey(c))
	}
	return err
}
