package faultfs

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Kind is a way in which a read goes wrong.
type Kind int

const (
	Bit     Kind = iota // one bit of what was read is another
	Zeros               // a sector of it is zeros
	Garbage             // a sector of it is anything
	EIO                 // the disk says that it cannot read
	Short               // it ends early, as if the file had been cut off there
	EMFILE              // the process has too many open files: nothing can be opened
)

// Kinds are all of them.
var Kinds = []Kind{Bit, Zeros, Garbage, EIO, Short, EMFILE}

func (k Kind) String() string {
	return [...]string{"bit", "zeros", "garbage", "EIO", "short", "EMFILE"}[k]
}

// sector is what a disk loses at once.
const sector = 512

// Plan says which reads go wrong. The zero Plan is that the first read of any
// file has a wrong bit, once.
type Plan struct {
	Kind Kind
	// Match selects the paths; nil: all.
	Match func(path string) bool
	// After is how many reads go well before, of those that this kind can spoil.
	After int
	// Count is how many go wrong then, one after the other; 0: one, negative: all.
	Count int
	// Chance, if it is not 0, is that of each read between these to go wrong.
	Chance float64
	// Lasting bytes are wrong at every later read of the same place as well, as
	// on a damaged disk, until they are written anew. The others were wrong on
	// the way.
	Lasting bool
	// Seed decides which bit or sector it is, and Chance.
	Seed uint64
}

// FS is a file system with faults in reading. Everything else goes through.
type FS struct {
	vfs.FS

	mu    sync.Mutex
	plan  *Plan
	dice  *rand.Rand
	reads int               // that the plan could have spoiled
	hits  int               // that it spoiled
	spots map[string][]spot // lasting ones, by path
}

// spot is a place of a file that lasts in being wrong.
type spot struct {
	kind     Kind
	from, to int64 // of a short file: nothing is from here on
	bit      byte
	seed     uint64
}

// New wraps a file system. There are no faults before Set.
func New(fs vfs.FS) *FS { return &FS{FS: fs, spots: map[string][]spot{}} }

// Unwrap returns the file system below.
func (f *FS) Unwrap() vfs.FS { return f.FS }

// Set begins a plan, which takes the place of the one before. Places that were
// damaged for good stay so.
func (f *FS) Set(plan Plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if plan.Count == 0 {
		plan.Count = 1
	}
	f.plan, f.dice, f.reads, f.hits = &plan, rand.New(rand.NewPCG(plan.Seed, 7)), 0, 0
}

// Heal ends all faults.
func (f *FS) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan = nil
	clear(f.spots)
}

// Counts says how many reads the plan could have spoiled since Set, and how
// many it did.
func (f *FS) Counts() (reads, hits int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads, f.hits
}

// due says whether a read of this path goes wrong now.
func (f *FS) due(path string, can func(Kind) bool) bool {
	p := f.plan
	if p == nil || !can(p.Kind) || p.Match != nil && !p.Match(path) {
		return false
	}
	f.reads++
	if f.reads <= p.After || p.Count >= 0 && f.hits >= p.Count {
		return false
	}
	if p.Chance != 0 && f.dice.Float64() >= p.Chance {
		return false
	}
	f.hits++
	return true
}

// opening is the error of opening a path, if it goes wrong.
func (f *FS) opening(op, path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.due(path, func(k Kind) bool { return k == EMFILE }) {
		return fmt.Errorf("%s %s: %w", op, path, syscall.EMFILE)
	}
	return nil
}

// looking is the error of reading a folder or what is known of a file.
func (f *FS) looking(op, path string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.due(path, func(k Kind) bool { return k == EIO }) {
		return fmt.Errorf("%s %s: %w", op, path, syscall.EIO)
	}
	return nil
}

// Open opens a file whose reads may go wrong.
func (f *FS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := f.opening("open", name); err != nil {
		return nil, err
	}
	inner, err := f.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return &file{File: inner, fs: f, path: name}, nil
}

// OpenReadWrite is likewise.
func (f *FS) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	if err := f.opening("open", name); err != nil {
		return nil, err
	}
	inner, err := f.FS.OpenReadWrite(name, category, opts...)
	if err != nil {
		return nil, err
	}
	return &file{File: inner, fs: f, path: name}, nil
}

// Create makes a new file: whatever was wrong with an old one is gone.
func (f *FS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	inner, err := f.FS.Create(name, category)
	if err != nil {
		return nil, err
	}
	f.forget(name)
	return &file{File: inner, fs: f, path: name}, nil
}

// ReuseForWrite likewise.
func (f *FS) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	inner, err := f.FS.ReuseForWrite(from, to, category)
	if err != nil {
		return nil, err
	}
	f.forget(from)
	f.forget(to)
	return &file{File: inner, fs: f, path: to}, nil
}

// OpenDir opens a folder.
func (f *FS) OpenDir(name string) (vfs.File, error) {
	if err := f.opening("open", name); err != nil {
		return nil, err
	}
	return f.FS.OpenDir(name)
}

// List reads a folder.
func (f *FS) List(dir string) ([]string, error) {
	if err := f.opening("open", dir); err != nil {
		return nil, err
	}
	if err := f.looking("list", dir); err != nil {
		return nil, err
	}
	return f.FS.List(dir)
}

// Stat reads what is known of a file.
func (f *FS) Stat(name string) (vfs.FileInfo, error) {
	if err := f.looking("stat", name); err != nil {
		return nil, err
	}
	return f.FS.Stat(name)
}

// Rename moves a file with what is wrong with it.
func (f *FS) Rename(from, to string) error {
	if err := f.FS.Rename(from, to); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.spots, to)
	if spots, ok := f.spots[from]; ok {
		f.spots[to] = spots
		delete(f.spots, from)
	}
	return nil
}

// Link gives a file another name, and what is wrong with it.
func (f *FS) Link(from, to string) error {
	if err := f.FS.Link(from, to); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if spots, ok := f.spots[from]; ok {
		f.spots[to] = spots
	}
	return nil
}

// Remove removes a file.
func (f *FS) Remove(name string) error {
	if err := f.FS.Remove(name); err != nil {
		return err
	}
	f.forget(name)
	return nil
}

func (f *FS) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.spots, name)
}

// spoil changes what was read at a place, and says how much of it there is and
// with what error.
func (f *FS) spoil(path string, data []byte, at int64, n int, err error) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n > 0 && f.due(path, func(k Kind) bool { return k != EMFILE }) {
		s := f.place(at, n)
		if f.plan.Lasting {
			f.spots[path] = append(f.spots[path], s)
		} else {
			n, err = s.apply(data[:n], at, err)
		}
	}
	for _, s := range f.spots[path] {
		if n > 0 {
			n, err = s.apply(data[:n], at, err)
		}
	}
	return n, err
}

// place chooses where in a read of n bytes the fault is.
func (f *FS) place(at int64, n int) spot {
	where := at + f.dice.Int64N(int64(n))
	s := spot{kind: f.plan.Kind, from: where, to: where + 1, bit: 1 << f.dice.IntN(8), seed: f.dice.Uint64()}
	switch s.kind {
	case Zeros, Garbage, EIO:
		s.from = where / sector * sector
		s.to = s.from + sector
	}
	return s
}

// apply spoils what was read from at on, if the spot is in it.
func (s spot) apply(data []byte, at int64, err error) (int, error) {
	n := len(data)
	from, to := max(s.from, at), min(s.to, at+int64(n))
	if s.kind == Short {
		to = at + int64(n)
	}
	if from >= to {
		return n, err
	}
	switch part := data[from-at : to-at]; s.kind {
	case Bit:
		part[0] ^= s.bit
	case Zeros:
		clear(part)
	case Garbage:
		// The same bytes at every read of the place.
		dice := rand.New(rand.NewPCG(s.seed, uint64(from)))
		for i := range part {
			part[i] ^= byte(1 + dice.IntN(255))
		}
	case EIO:
		return 0, syscall.EIO
	case Short:
		return int(from - at), io.EOF
	}
	return n, err
}

// file is an open file.
type file struct {
	vfs.File
	fs   *FS
	path string

	mu sync.Mutex
	at int64 // of the next Read
}

func (f *file) Read(data []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.File.Read(data)
	n, err = f.fs.spoil(f.path, data, f.at, n, err)
	f.at += int64(n)
	return n, err
}

func (f *file) ReadAt(data []byte, at int64) (int, error) {
	n, err := f.File.ReadAt(data, at)
	return f.fs.spoil(f.path, data, at, n, err)
}
