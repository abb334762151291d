package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/internal/fencefs"
)

// Checkpoint writes the pinset into dir, which must not exist, with hard links
// where the file system has them. When it returns, the checkpoint is on disk,
// and so is everything up to it in the pinset itself: after any crash Applied
// is at least what it was when Checkpoint was called (INV-APPLIED). What is applied while it
// runs may be in it or not; each Apply is in it whole or not at all.
func (p *Pinset) Checkpoint(dir string) error {
	g, err := p.acquire()
	if err != nil {
		return err
	}
	defer p.release(g)
	if err := g.fence.Err(); err != nil {
		return err
	}
	applied := p.Applied()
	// The sync of the log is what both promises rest on: the tables that it does
	// not cover were synced when they were written.
	err = guard(func() error { return g.db.Checkpoint(dir, pebble.WithFlushedWAL()) })
	if err != nil {
		return fencefs.NoSpace(dir, fmt.Errorf("write checkpoint %s: %w", dir, err))
	}
	if err := errors.Join(g.fence.Err(), writeIndex(p.fs, dir, applied)); err != nil {
		_ = p.fs.RemoveAll(dir) // best effort: it may lack the end
		return fencefs.NoSpace(dir, err)
	}
	return nil
}

// Restore discards everything and becomes the checkpoint in dir, which stays
// as it is. A crash at any moment leaves either the old pinset or the new one.
// Listings that are under way go on with the old one.
//
// After an error the old pinset is still there; only when it is unknown which
// of the two a restart would find, further Applies are refused as well.
func (p *Pinset) Restore(dir string) error {
	p.writer.Lock()
	defer p.writer.Unlock()
	old, err := p.acquire()
	if err != nil {
		return err
	}
	defer p.release(old)
	// A name that was tried is not tried again: Pebble may still hold its lock.
	name, err := nextName(p.lastName)
	if err != nil {
		return err
	}
	p.lastName = name
	target := p.fs.PathJoin(p.dir, name)
	g, err := p.prepare(dir, target)
	if err != nil {
		// Best effort: what stays is removed at the next start or restore.
		_ = p.fs.RemoveAll(target)
		return fencefs.NoSpace(dir, fmt.Errorf("restore %s: %w", dir, err))
	}
	if err := writeCurrent(p.fs, p.dir, name); err != nil {
		p.broken = fmt.Errorf("restore %s: the pinset must be opened again: %w", dir, err)
		return errors.Join(p.broken, g.db.Close())
	}
	p.mu.Lock()
	p.gen = g
	p.generations.Add(1)
	old.doomed = true
	p.mu.Unlock()
	p.broken = nil
	p.release(old) // the pinset's own hold
	p.notify()
	return nil
}

// prepare makes a complete database in target out of a checkpoint.
func (p *Pinset) prepare(dir, target string) (*generation, error) {
	if err := p.fs.RemoveAll(target); err != nil {
		return nil, err
	}
	if err := copyCheckpoint(p.fs, dir, target); err != nil {
		return nil, err
	}
	if err := syncDir(p.fs, p.dir); err != nil {
		return nil, err
	}
	// Before it is opened: then it may write tables of its own.
	if err := verifyTables(p.fs, target); err != nil {
		return nil, err
	}
	g, err := openGeneration(p.fs, target, p.cache, false, p.known)
	if err != nil {
		return nil, err
	}
	if err := g.verify(dir); err != nil {
		return nil, errors.Join(err, g.db.Close())
	}
	return g, nil
}

// copyCheckpoint links the tables, which are never written again, and copies
// all other files, which Pebble may write to.
func copyCheckpoint(fs vfs.FS, from, to string) error {
	names, err := fs.List(from)
	if err != nil {
		return err
	}
	if err := fs.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, name := range names {
		source, target := fs.PathJoin(from, name), fs.PathJoin(to, name)
		if strings.HasSuffix(name, ".sst") && fs.Link(source, target) == nil {
			continue
		}
		if err := copyFile(fs, source, target); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return syncDir(fs, to)
}

func copyFile(fs vfs.FS, from, to string) error {
	source, err := fs.Open(from, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := fs.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	n, err := io.Copy(target, source)
	if err == nil && n != info.Size() {
		err = fmt.Errorf("%d of %d bytes could be read: %w", n, info.Size(), io.ErrUnexpectedEOF)
	}
	if err == nil {
		err = target.Sync()
	}
	return errors.Join(err, target.Close())
}

// guard turns a panic of Pebble, which it raises when it cannot sync the folder
// of a checkpoint, into the error that it is.
func guard(fn func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			var ok bool
			if err, ok = cause.(error); !ok {
				panic(cause)
			}
		}
	}()
	return fn()
}

// nextName is the name of the folder after db-000001 and so on.
func nextName(name string) (string, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(name, folderPrefix), 10, 64)
	if err != nil {
		return "", fmt.Errorf("folder %q is not named by a number: %w", name, err)
	}
	return folderName(n + 1), nil
}

func folderName(number uint64) string { return fmt.Sprintf("%s%06d", folderPrefix, number) }

// readCurrent returns the name in CURRENT, or "" when there is no such file.
func readCurrent(fsys vfs.FS, dir string) (string, error) {
	f, err := fsys.Open(fsys.PathJoin(dir, currentFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", currentFile, err)
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", fmt.Errorf("read %s: %w", currentFile, err)
	}
	// Nothing but what writeCurrent writes: half a name is the name of another.
	var number uint64
	if _, err := fmt.Sscanf(string(data), folderPrefix+"%d\n", &number); err != nil || string(data) != folderName(number)+"\n" {
		return "", fmt.Errorf("%s in %s is damaged: it says %q; remove the folder to fetch the pinset from the other peers", currentFile, dir, data)
	}
	return folderName(number), nil
}

// writeCurrent changes CURRENT in one step that is on disk on return. After an
// error it may say either.
func writeCurrent(fs vfs.FS, dir, name string) error {
	temp := fs.PathJoin(dir, currentTemp)
	f, err := fs.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write %s: %w", currentFile, err)
	}
	_, err = f.Write([]byte(name + "\n"))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fs.Rename(temp, fs.PathJoin(dir, currentFile))
	}
	if err == nil {
		err = syncDir(fs, dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", currentFile, err)
	}
	return nil
}

// makeDir creates a folder and its missing parents so that they survive a
// crash: each is synced, and so is the first one that was there.
func makeDir(fs vfs.FS, dir string) error {
	var parents []string
	for path := dir; ; {
		parent := fs.PathDir(path)
		if parent == path {
			break
		}
		parents = append(parents, parent)
		if _, err := fs.Stat(parent); err == nil {
			break
		}
		path = parent
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, parent := range parents {
		if err := syncDir(fs, parent); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	f, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open folder %s: %w", dir, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}
