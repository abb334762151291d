package spool

import (
	"io"
	"sync"
)

// Spool keeps what is written until it is read, in order: in memory, then in a
// file. Writing never waits. One goroutine may write while another reads. It
// has its share of the store's budget until it is closed.
type Spool struct {
	store *Store

	mu       sync.Mutex
	changed  sync.Cond
	memory   []byte // not yet read; a part of what was taken
	taken    int64  // of the store's memory
	file     File
	from, to int64 // what the file holds; it is newer than memory
	ended    bool
	failed   error // why nothing can be written or read any more
}

// New returns an empty spool.
func (s *Store) New() *Spool {
	q := &Spool{store: s}
	q.changed.L = &q.mu
	return q
}

// Write adds a copy of p to the end, all of it or nothing.
func (q *Spool) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.changed.Broadcast()
	if q.failed != nil {
		return 0, q.failed
	}
	if n := int64(len(p)); q.to == 0 && q.taken+n <= q.store.limits.Small && q.store.takeMemory(n) {
		q.taken += n
		q.memory = append(q.memory, p...)
		return len(p), nil
	}
	if err := q.writeFile(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeFile adds p to the file. Caller holds mu.
func (q *Spool) writeFile(p []byte) error {
	n := int64(len(p))
	if err := q.store.takeFile(q.to, n); err != nil {
		return err
	}
	err := q.open()
	if err == nil {
		_, err = q.file.WriteAt(p, q.to)
	}
	if err != nil { // part of p may lie there, beyond what counts
		q.store.give(0, n)
		q.failed = diskError(err)
		return q.failed
	}
	q.to += n
	return nil
}

func (q *Spool) open() (err error) {
	if q.file == nil {
		q.file, err = q.store.create()
	}
	return err
}

// Read takes from the front. It waits for a writer, and ends after End.
func (q *Spool) Read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.len() == 0 && !q.ended {
		q.changed.Wait()
	}
	if len(q.memory) > 0 {
		n := copy(p, q.memory)
		if q.memory = q.memory[n:]; len(q.memory) == 0 {
			q.giveMemory()
		}
		return n, nil
	}
	if q.from == q.to {
		return 0, io.EOF
	}
	n, err := q.file.ReadAt(p[:min(int64(len(p)), q.to-q.from)], q.from)
	q.from += int64(n)
	if n > 0 {
		err = nil
	}
	if err == nil && q.from == q.to {
		err = q.file.Truncate(0)
		q.giveFile()
	}
	if err != nil {
		q.failed = diskError(err)
		return 0, q.failed
	}
	return n, nil
}

// giveMemory gives back what memory took. Caller holds mu, and has emptied it.
func (q *Spool) giveMemory() {
	q.store.give(q.taken, 0)
	q.memory, q.taken = nil, 0
}

// giveFile gives back what the file took. Caller holds mu, and has emptied it.
func (q *Spool) giveFile() {
	q.store.give(0, q.to)
	q.from, q.to = 0, 0
}

// Len is how many bytes were written and not read; of nil none.
func (q *Spool) Len() int64 {
	if q == nil {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.len()
}

func (q *Spool) len() int64 { return int64(len(q.memory)) + q.to - q.from }

// End lets readers come to the end.
func (q *Spool) End() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.changed.Broadcast()
}

// Close forgets what was not read and gives the spool's share back. It may be
// called twice, and on nil; nothing can be written afterwards.
func (q *Spool) Close() {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveMemory()
	if q.file != nil {
		_ = q.file.Close() // nothing of it is needed
		q.file = nil
	}
	q.giveFile()
	q.ended, q.failed = true, io.ErrClosedPipe
	q.changed.Broadcast()
}
