package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	pebbleds "github.com/ipfs/go-ds-pebble"
)

// pebbleStore is the datastore on Pebble. It reads by itself, since the one of
// go-ds-pebble takes failed reads for data: Pebble reads a separated value when
// it is asked for, gives an empty one where that fails, and tells of the error
// at the closing only, which go-ds-pebble does not look at; and a query of its
// that meets an error ends as if there was nothing more. It can also give back
// the space of what was deleted.
type pebbleStore struct {
	*pebbleds.Datastore
	gone *atomic.Bool // a file of values is; none is rewritten then

	mu     sync.Mutex
	closed bool
	open   map[*pebbleQuery]struct{} // Pebble must not close below an iterator
}

func newPebbleStore(store *pebbleds.Datastore, gone *atomic.Bool) *pebbleStore {
	return &pebbleStore{Datastore: store, gone: gone, open: map[*pebbleQuery]struct{}{}}
}

// Get reads a value.
func (s *pebbleStore) Get(_ context.Context, key ds.Key) ([]byte, error) {
	if s.gone.Load() {
		return s.getCarefully(key)
	}
	value, err := s.get(key)
	if errors.Is(err, errFileGone) {
		s.gone.Store(true)
	}
	return value, err
}

func (s *pebbleStore) get(key ds.Key) (out []byte, err error) {
	defer recoverFileGone(&err)
	value, closer, err := s.DB.Get(key.Bytes())
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ds.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	// The value must be copied before the closing, which tells whether it was read.
	out = append([]byte{}, value...)
	if err := closer.Close(); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return out, nil
}

// getCarefully is get where reading may panic: what it opens, it closes then too.
func (s *pebbleStore) getCarefully(key ds.Key) ([]byte, error) {
	iter, err := s.DB.NewIter(bounds(key))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	var value []byte
	there := iter.SeekPrefixGE(key.Bytes())
	if there {
		if value, err = valueOf(iter); err == nil {
			value = append([]byte{}, value...)
		}
	}
	if err = errors.Join(err, iter.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if !there {
		return nil, ds.ErrNotFound
	}
	return value, nil
}

// errFileGone says that the file which holds a value is not there any more.
var errFileGone = fmt.Errorf("a file of the database is gone: %w", syscall.EIO)

// recoverFileGone makes an error of the panic in which Pebble v2.1.6 ends where
// a file of separated values was gone already when the database was opened. It
// has no lock at that moment.
func recoverFileGone(err *error) {
	r := recover()
	if r == nil {
		return
	}
	if !strings.Contains(fmt.Sprint(r), "unknown metadata type") {
		panic(r)
	}
	*err = errFileGone
}

// valueOf is the value that an iterator is at.
func valueOf(iter *pebble.Iterator) (value []byte, err error) {
	defer recoverFileGone(&err)
	return iter.ValueAndErr()
}

// bounds make an iterator one of a single key.
func bounds(key ds.Key) *pebble.IterOptions {
	raw := key.Bytes()
	return &pebble.IterOptions{LowerBound: raw, UpperBound: append(raw[:len(raw):len(raw)], 0), UseL6Filters: true}
}

// GetSize tells a value's length, without reading it where it is kept apart.
func (s *pebbleStore) GetSize(_ context.Context, key ds.Key) (size int, err error) {
	iter, err := s.DB.NewIter(bounds(key))
	if err != nil {
		return -1, fmt.Errorf("look for %s: %w", key, err)
	}
	there := iter.SeekPrefixGE(key.Bytes())
	if there {
		value := iter.LazyValue()
		size = value.Len()
	}
	if err := iter.Close(); err != nil {
		return -1, fmt.Errorf("look for %s: %w", key, err)
	}
	if !there {
		return -1, ds.ErrNotFound
	}
	return size, nil
}

// Has says whether a key has a value, as GetSize does.
func (s *pebbleStore) Has(ctx context.Context, key ds.Key) (bool, error) {
	_, err := s.GetSize(ctx, key)
	if errors.Is(err, ds.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Query finds what lies under a prefix, in the order of the keys unless asked
// otherwise. A query that cannot read on ends with an error.
func (s *pebbleStore) Query(_ context.Context, q query.Query) (query.Results, error) {
	prefix := ds.NewKey(q.Prefix).String()
	if prefix != "/" {
		prefix += "/"
	}
	under := &pebble.IterOptions{LowerBound: []byte(prefix), UpperBound: append([]byte(prefix[:len(prefix)-1]), '/'+1)}
	it := &pebbleQuery{store: s, keysOnly: q.KeysOnly, sizes: q.ReturnsSizes}
	rest := q // what Pebble cannot do
	rest.Prefix = ""
	if len(q.Orders) == 1 {
		switch q.Orders[0].(type) {
		case query.OrderByKey, *query.OrderByKey:
			rest.Orders = nil
		case query.OrderByKeyDescending, *query.OrderByKeyDescending:
			it.backwards, rest.Orders = true, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errStoreClosed
	}
	var err error
	if it.iter, err = s.DB.NewIter(under); err != nil {
		return nil, fmt.Errorf("query %s: %w", prefix, err)
	}
	s.open[it] = struct{}{}
	return query.NaiveQueryApply(rest, query.ResultsFromIterator(q, query.Iterator{Next: it.next, Close: it.close})), nil
}

// Close ends what queries are left, and closes the database.
func (s *pebbleStore) Close() error {
	s.mu.Lock()
	s.closed = true
	var left []*pebbleQuery
	for it := range s.open {
		left = append(left, it)
	}
	s.mu.Unlock()
	for _, it := range left {
		_ = it.end(errStoreClosed) // the query's next step tells
	}
	return s.Datastore.Close()
}

var errStoreClosed = errors.New("the datastore is closed")

// pebbleQuery is a query at work.
type pebbleQuery struct {
	store           *pebbleStore
	backwards       bool
	keysOnly, sizes bool

	mu      sync.Mutex
	iter    *pebble.Iterator // nil: it has ended
	started bool
	failed  error // is told once
}

func (it *pebbleQuery) next() (query.Result, bool) {
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.iter == nil || !it.advance() {
		return it.last()
	}
	entry := query.Entry{Key: string(it.iter.Key())}
	if !it.keysOnly || it.sizes {
		value, err := valueOf(it.iter)
		if err != nil {
			it.failed = err
			return it.last()
		}
		entry.Size = len(value)
		if !it.keysOnly {
			entry.Value = bytes.Clone(value)
		}
	}
	return query.Result{Entry: entry}, true
}

func (it *pebbleQuery) advance() bool {
	first := !it.started
	it.started = true
	switch {
	case first && it.backwards:
		return it.iter.Last()
	case first:
		return it.iter.First()
	case it.backwards:
		return it.iter.Prev()
	default:
		return it.iter.Next()
	}
}

// last ends the query: with its error, the first time, if it failed.
func (it *pebbleQuery) last() (query.Result, bool) {
	if err := it.finish(); it.failed == nil {
		it.failed = err
	}
	if err := it.failed; err != nil {
		it.failed = nil
		return query.Result{Error: fmt.Errorf("query: %w", err)}, true
	}
	return query.Result{}, false
}

// finish closes the iterator, which tells of an error that ended it.
func (it *pebbleQuery) finish() error {
	if it.iter == nil {
		return nil
	}
	err := it.iter.Close()
	it.iter = nil
	it.store.mu.Lock()
	defer it.store.mu.Unlock()
	delete(it.store.open, it)
	return err
}

// end closes the query before its end; its next step tells why.
func (it *pebbleQuery) end(why error) error {
	it.mu.Lock()
	defer it.mu.Unlock()
	if it.iter == nil {
		return nil
	}
	it.failed = why
	return it.finish()
}

func (it *pebbleQuery) close() error { return it.end(nil) }

// CollectGarbage rewrites the tables, so that deleted keys and the files of their
// values go. Values of separatedBytes and more are not rewritten, which makes
// it cheap. A file of values of which some live on is rewritten later.
func (s *pebbleStore) CollectGarbage(ctx context.Context) error {
	if err := s.DB.Compact(ctx, []byte("/"), []byte("0"), false); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	return nil
}
