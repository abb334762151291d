package state

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrDamaged is what Open says of a database whose bytes are not what was written
// to it. Other errors of a disk may pass; this one does not.
var ErrDamaged = errors.New("the pinset's database is damaged")

// damaged marks an error of reading, if it is one that does not pass: bytes that
// are wrong, or tables that are not there. The list of tables is read up to where it
// is damaged, and what it says up to there may name some that are gone since.
func damaged(err error) error {
	if pebble.IsCorruptionError(err) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// markFile stands in the folder of the pinset after wrong bytes were met in the
// database that it names: most of them lie where Open does not look.
const markFile = "DAMAGED"

// corrupt is called when wrong bytes were met, by whichever reader. Nothing is
// applied any more then, and the next Open reads all.
func (g *generation) corrupt(details error) {
	g.fence.Fail(fmt.Errorf("pinset database is corrupt: %w", details))
	path := g.fs.PathJoin(g.fs.PathDir(g.dir), markFile)
	// Best effort: without the mark the next start meets the bytes where this one did.
	f, err := g.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return
	}
	_, err = f.Write([]byte(g.fs.PathBase(g.dir) + "\n"))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		_ = syncDir(g.fs, g.fs.PathDir(g.dir))
	}
}

// checkMark reads all of a database in which wrong bytes were met before. If they
// were wrong on their way from the disk, and not there, it is as good as any.
func checkMark(fsys vfs.FS, dir string) error {
	path := fsys.PathJoin(fsys.PathDir(dir), markFile)
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", markFile, err)
	}
	name, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read %s: %w", markFile, err)
	}
	if strings.TrimSuffix(string(name), "\n") == fsys.PathBase(dir) {
		if err := verifyTables(fsys, dir); err != nil {
			return damaged(fmt.Errorf("read pinset database %s: %w", dir, err))
		}
	}
	return fsys.Remove(path)
}

// StartOver makes an empty pinset of one that Open calls damaged, for a peer that
// makes it anew from its snapshots and its log. What was there is kept in another
// folder, whose path it returns, until it is called again.
func StartOver(fs vfs.FS, dir string) (kept string, err error) {
	current, remains, err := openFolder(fs, dir)
	if err != nil {
		return "", err
	}
	last := current
	for _, name := range remains {
		if strings.HasPrefix(name, folderPrefix) {
			last = max(last, name) // none of their names is used again
		}
	}
	name, err := nextName(last)
	if err != nil {
		return "", err
	}
	kept = fs.PathJoin(dir, "damaged")
	if err := fs.RemoveAll(kept); err != nil {
		return "", err
	}
	// The new database is whole before it counts: a crash leaves the old one, or it.
	if err := makeEmpty(fs, fs.PathJoin(dir, name)); err != nil {
		return "", err
	}
	if err := syncDir(fs, dir); err != nil {
		return "", err
	}
	if err := writeCurrent(fs, dir, name); err != nil {
		return "", err
	}
	return kept, errors.Join(fs.Rename(fs.PathJoin(dir, current), kept), syncDir(fs, dir))
}

// makeEmpty makes a database without pins.
func makeEmpty(fs vfs.FS, folder string) error {
	if err := fs.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	cache := pebble.NewCache(1 << 20)
	defer cache.Unref()
	g, err := openGeneration(fs, folder, cache, true, CommandVersion)
	if err != nil {
		return err
	}
	if err := g.db.Close(); err != nil {
		return fmt.Errorf("make a pinset database in %s: %w", folder, err)
	}
	return nil
}
