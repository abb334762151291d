package fencefs

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
)

// Fence stands between Pebble and the folder of one database. Pebble does not
// live with a disk that fails: depending on which write it is, it panics,
// sometimes in the background, ends the process, or tries again for ever.
//
// With the first write that fails the fence comes down: the database counts as
// failed, which its owner must ask for with Err before it believes in a write,
// and from then on every write seems to succeed and none is done. So Pebble
// stays calm until it is closed, and the disk stays as a crash at that moment
// would have left it, which Pebble is made to recover from.
//
// A Fence is also what Pebble's Fatalf should end in: see there.
type Fence struct {
	vfs.FS
	dir, what string
	failure   atomic.Pointer[error]
	down      atomic.Bool
}

// New puts a fence around the database in dir. Messages call it what, such as
// "pinset".
func New(fs vfs.FS, dir, what string) *Fence { return &Fence{FS: fs, dir: dir, what: what} }

// Fail makes the database count as failed. The first failure is kept.
func (f *Fence) Fail(err error) {
	err = NoSpace(f.dir, err)
	f.failure.CompareAndSwap(nil, &err)
}

// Err is the first failure, or nil. After one, nothing is to be believed that
// was written since the last time Err was nil.
func (f *Fence) Err() error {
	if err := f.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Fatalf is for the Logger of Pebble, which calls it when it cannot go on
// (failed writes are held off before). Pebble's own one ends the process.
func (f *Fence) Fatalf(format string, args ...any) {
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			f.Fail(fmt.Errorf("%s database: %w", f.what, err))
			return
		}
	}
	f.Fail(fmt.Errorf(f.what+" database: "+format, args...))
}

// NoSpace gives an error that a full disk caused its code.
func NoSpace(dir string, err error) error {
	if vfs.IsNoSpaceError(err) {
		return api.Errorf(api.CodeNoSpace, "the disk under %s is full; free some space and start again: %w", dir, err)
	}
	return err
}

var errFenced = errors.New("the file was not written, because a write before had failed")

// covers says whether a path is in the folder of the database.
func (f *Fence) covers(path string) bool {
	return path == f.dir || f.FS.PathDir(path) == f.dir
}

// do does a write, or seems to.
func (f *Fence) do(path, what string, write func() error) error {
	if !f.covers(path) {
		return write()
	}
	if f.down.Load() {
		return nil
	}
	if err := write(); err != nil {
		f.Fail(fmt.Errorf("%s of the %s: %w", what, f.what, err))
		f.down.Store(true)
	}
	return nil
}

// create does what makes a file to write to.
func (f *Fence) create(path string, open func() (vfs.File, error)) (vfs.File, error) {
	file := vfs.File(nullFile{})
	err := f.do(path, "create a file", func() error {
		opened, err := open()
		if err == nil {
			file = opened
		}
		return err
	})
	if err != nil || !f.covers(path) {
		return file, err
	}
	return &fencedFile{File: file, fence: f}, nil
}

// Create creates a file behind the fence. Pebble's markers are empty files that
// say by their names which other file counts, such as the manifest. It makes
// them durable together with the names of those files, in one sync, and a crash
// before that may keep the marker alone: the database could never be opened
// again. So what a marker speaks of is made durable first.
func (f *Fence) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(f.FS.PathBase(name), "marker.") && f.covers(name) {
		if err := f.do(name, "sync the folder", f.syncDir); err != nil {
			return nil, err
		}
	}
	return f.create(name, func() (vfs.File, error) { return f.FS.Create(name, category) })
}

// OpenReadWrite opens a file behind the fence.
func (f *Fence) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.create(name, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, category, opts...) })
}

// ReuseForWrite renames a file and opens it behind the fence.
func (f *Fence) ReuseForWrite(from, to string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.create(to, func() (vfs.File, error) { return f.FS.ReuseForWrite(from, to, category) })
}

// OpenDir opens a folder to sync it behind the fence.
func (f *Fence) OpenDir(name string) (vfs.File, error) {
	dir, err := f.FS.OpenDir(name)
	if err != nil || !f.covers(name) {
		return dir, err
	}
	return &fencedFile{File: dir, fence: f}, nil
}

// Link links a file unless the fence is down.
func (f *Fence) Link(from, to string) error {
	return f.do(to, "link a file", func() error { return f.FS.Link(from, to) })
}

// Remove removes a file unless the fence is down.
func (f *Fence) Remove(name string) error {
	return f.do(name, "remove a file", func() error { return f.FS.Remove(name) })
}

// RemoveAll removes files unless the fence is down.
func (f *Fence) RemoveAll(name string) error {
	return f.do(name, "remove files", func() error { return f.FS.RemoveAll(name) })
}

// Rename renames a file unless the fence is down.
func (f *Fence) Rename(from, to string) error {
	return f.do(to, "rename a file", func() error { return f.FS.Rename(from, to) })
}

func (f *Fence) syncDir() error {
	dir, err := f.FS.OpenDir(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Unwrap returns the file system behind the fence.
func (f *Fence) Unwrap() vfs.FS { return f.FS }

// fencedFile is a file or the folder of the database.
type fencedFile struct {
	vfs.File
	fence *Fence
}

func (f *fencedFile) do(what string, write func() error) error {
	return f.fence.do(f.fence.dir, what, write)
}

func (f *fencedFile) Write(data []byte) (int, error) {
	return len(data), f.do("write to a file", func() error {
		_, err := f.File.Write(data)
		return err
	})
}

func (f *fencedFile) WriteAt(data []byte, at int64) (int, error) {
	return len(data), f.do("write to a file", func() error {
		_, err := f.File.WriteAt(data, at)
		return err
	})
}

func (f *fencedFile) Preallocate(offset, length int64) error {
	return f.do("allocate a file", func() error { return f.File.Preallocate(offset, length) })
}

func (f *fencedFile) Sync() error { return f.do("sync", f.File.Sync) }

func (f *fencedFile) SyncData() error { return f.do("sync", f.File.SyncData) }

func (f *fencedFile) SyncTo(length int64) (full bool, err error) {
	err = f.do("sync", func() (err error) {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, err
}

// Stat is fenced because Pebble asks for the size of a log that it is about to
// write, and panics when it cannot know.
func (f *fencedFile) Stat() (info vfs.FileInfo, err error) {
	info = nullInfo{}
	err = f.do("look at a file", func() error {
		got, err := f.File.Stat()
		if err == nil {
			info = got
		}
		return err
	})
	return info, err
}

// Close closes the file also behind the fence: it must not stay open.
func (f *fencedFile) Close() error {
	err := f.File.Close()
	return f.do("close a file", func() error { return err })
}

// nullFile is a file that was not created.
type nullFile struct{}

func (nullFile) Close() error                              { return nil }
func (nullFile) Read([]byte) (int, error)                  { return 0, errFenced }
func (nullFile) ReadAt([]byte, int64) (int, error)         { return 0, errFenced }
func (nullFile) Write(data []byte) (int, error)            { return len(data), nil }
func (nullFile) WriteAt(data []byte, _ int64) (int, error) { return len(data), nil }
func (nullFile) Preallocate(int64, int64) error            { return nil }
func (nullFile) Stat() (vfs.FileInfo, error)               { return nullInfo{}, nil }
func (nullFile) Sync() error                               { return nil }
func (nullFile) SyncTo(int64) (bool, error)                { return false, nil }
func (nullFile) SyncData() error                           { return nil }
func (nullFile) Prefetch(int64, int64) error               { return nil }
func (nullFile) Fd() uintptr                               { return vfs.InvalidFd }

// nullInfo tells of a file that was not created: it is empty.
type nullInfo struct{}

func (nullInfo) Name() string           { return "" }
func (nullInfo) Size() int64            { return 0 }
func (nullInfo) Mode() fs.FileMode      { return 0 }
func (nullInfo) ModTime() time.Time     { return time.Time{} }
func (nullInfo) IsDir() bool            { return false }
func (nullInfo) Sys() any               { return nil }
func (nullInfo) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }
