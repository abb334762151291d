package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/dustin/go-humanize"

	"holdfast/api"
)

// Limits bound what spools keep, in bytes. A zero field has a default.
type Limits struct {
	Files  int64 // of all spools, in files; zero: 1 GiB
	Each   int64 // of one spool, in its file; zero: a quarter of Files
	Memory int64 // of all spools, in memory; zero: 64 MiB
	Small  int64 // of one spool, in memory, before its file begins; zero: 1 MiB
}

func (l Limits) withDefaults() Limits {
	set := func(limit *int64, value int64) {
		if *limit == 0 {
			*limit = value
		}
	}
	set(&l.Files, 1<<30)
	set(&l.Each, max(l.Files/4, 1))
	set(&l.Memory, 64<<20)
	set(&l.Small, 1<<20)
	return l
}

// File is what a spool needs of a file.
type File interface {
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Close() error
}

// Store is the budget and the folder of the spools of a process. One in whose
// folder nothing can be written still keeps what is small.
type Store struct {
	limits Limits
	create func() (File, error) // a file that is gone once it is closed; nil: all is in memory

	mu     sync.Mutex
	memory int64 // that is taken
	files  int64 // bytes in files that are taken
}

// Open returns a store whose files lie in dir, which it makes and empties: what
// lies there was left behind by a crash. Nobody else may use dir.
func Open(dir string, limits Limits) (*Store, error) {
	if info, err := os.Lstat(dir); err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s must be a folder, in which answers wait for their clients; remove it", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of answers that wait: %w", err)
	}
	left, err := os.ReadDir(dir)
	for _, entry := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, entry.Name())))
	}
	if err != nil {
		return nil, fmt.Errorf("empty the folder of answers that wait: %w", err)
	}
	return New(func() (File, error) { return createIn(dir) }, limits), nil
}

// New returns a store whose files create makes; each must be gone for good once
// it is closed.
func New(create func() (File, error), limits Limits) *Store {
	return &Store{limits: limits.withDefaults(), create: create}
}

// InMemory returns a store without files: what it keeps is in memory.
func InMemory() *Store { return New(nil, Limits{Small: 64 << 20}) }

// createIn makes a file that has no name any more where that is possible.
func createIn(dir string) (File, error) {
	file, err := os.CreateTemp(dir, "answer-*") // 0600
	if err != nil {
		return nil, err
	}
	if os.Remove(file.Name()) == nil {
		return file, nil
	}
	return named{file}, nil
}

// named is a file that some systems let nobody remove while it is open.
type named struct{ *os.File }

func (n named) Close() error { return errors.Join(n.File.Close(), os.Remove(n.Name())) }

// Used is how many bytes all spools hold, in memory and in files.
func (s *Store) Used() (memory, files int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.memory, s.files
}

func (s *Store) takeMemory(n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.memory+n > s.limits.Memory {
		return false
	}
	s.memory += n
	return true
}

// takeFile takes n more bytes for a file that has so many. The error is
// too_large when it is the only reason, else unavailable.
func (s *Store) takeFile(has, n int64) error {
	if s.create == nil {
		return api.Errorf(api.CodeUnavailable, "too many answers wait in memory for clients that do not read yet; try again later, or read while you send")
	}
	if has+n > s.limits.Each {
		return api.Errorf(api.CodeTooLarge, "the answer has more than %s, which are not kept for a client that does not read yet; read while you send, or ask for less at a time", humanize.IBytes(uint64(s.limits.Each)))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files+n > s.limits.Files {
		return api.Errorf(api.CodeUnavailable, "the answers that wait for clients that do not read yet take all of the %s that this peer keeps for them; try again later, or read while you send", humanize.IBytes(uint64(s.limits.Files)))
	}
	s.files += n
	return nil
}

func (s *Store) give(memory, files int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.memory -= memory
	s.files -= files
}

// diskError is an error of a file with its code.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return api.Errorf(api.CodeNoSpace, "the disk of this peer is full, so the answer cannot be kept until it is read: %w", err)
	}
	return api.Errorf(api.CodeInternal, "keep the answer in a file until it is read: %w", err)
}
