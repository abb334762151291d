package ipfsproxy

import (
	"io"
	"os"
	"sync"

	"holdfast/api"
)

// How much of an answer waits: in memory, and in a file when a client does not
// read what it asked for before it has sent everything.
const (
	inMemory = 1 << 20
	inFile   = 256 << 20
)

// queue holds what is written until it is read, in order: in memory, then in a
// file that has no name. Writing never waits.
type queue struct {
	mu       sync.Mutex
	changed  sync.Cond
	mem      []byte
	file     *os.File
	from, to int64 // what the file holds; it is newer than mem
	ended    bool
}

func newQueue() *queue {
	q := &queue{}
	q.changed.L = &q.mu
	return q
}

// Write adds to the end.
func (q *queue) Write(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer q.changed.Broadcast()
	if q.from == q.to && len(q.mem)+len(p) <= inMemory {
		q.mem = append(q.mem, p...)
		return len(p), nil
	}
	if q.to+int64(len(p)) > inFile {
		return 0, api.Errorf(api.CodeTooLarge, "the answer is over %d bytes and waits to be read; read while you send, or send less at a time", int64(inFile))
	}
	if q.file == nil {
		file, err := os.CreateTemp("", "ipfsproxy-answer-")
		if err != nil {
			return 0, api.Errorf(api.CodeUnavailable, "no room for an answer that waits to be read: %w", err)
		}
		_ = os.Remove(file.Name()) // it goes when it is closed
		q.file = file
	}
	n, err := q.file.WriteAt(p, q.to)
	q.to += int64(n)
	return n, err
}

// Read takes from the front. It waits for a writer, and ends after end.
func (q *queue) Read(p []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.mem) == 0 && q.from == q.to && !q.ended {
		q.changed.Wait()
	}
	if n := copy(p, q.mem); n > 0 {
		if q.mem = q.mem[n:]; len(q.mem) == 0 {
			q.mem = nil
		}
		return n, nil
	}
	if q.from == q.to {
		return 0, io.EOF
	}
	n, err := q.file.ReadAt(p[:min(int64(len(p)), q.to-q.from)], q.from)
	if q.from += int64(n); q.from == q.to {
		q.from, q.to = 0, 0
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// waiting says whether there is nothing to read now.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.mem) == 0 && q.from == q.to
}

func (q *queue) size() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(len(q.mem)) + q.to - q.from
}

// end lets readers come to the end.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	q.changed.Broadcast()
}

func (q *queue) close() {
	if q.file != nil {
		_ = q.file.Close() // it has no name any more
	}
}
