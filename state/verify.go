package state

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/internal/fencefs"
)

// indexFile is a file of a checkpoint with the log index that it contains at
// least. The end of a database's log is where it cannot be read any further, so
// a log that was damaged is a shorter one, and only this file tells. Checkpoints
// of earlier versions have none.
const indexFile = "APPLIED"

func writeIndex(fsys vfs.FS, dir string, index uint64) error {
	f, err := fsys.Create(fsys.PathJoin(dir, indexFile), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write %s of a checkpoint: %w", indexFile, err)
	}
	_, err = f.Write([]byte(indexText(index)))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncDir(fsys, dir)
	}
	if err != nil {
		return fmt.Errorf("write %s of a checkpoint: %w", indexFile, err)
	}
	return nil
}

func indexText(index uint64) string {
	text := fmt.Sprint(index)
	return fmt.Sprintf("%s %08x\n", text, crc32.ChecksumIEEE([]byte(text)))
}

// readIndex is 0 for a checkpoint without the file.
func readIndex(fsys vfs.FS, dir string) (index uint64, err error) {
	f, err := fsys.Open(fsys.PathJoin(dir, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", indexFile, err)
	}
	data, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, fmt.Errorf("read %s: %w", indexFile, err)
	}
	if _, err := fmt.Sscan(string(data), &index); err != nil || string(data) != indexText(index) {
		return 0, fmt.Errorf("%s is damaged: it says %q", indexFile, data)
	}
	return index, nil
}

// verify compares a database that was made of a checkpoint with what that should
// contain, before it takes the place of another.
func (g *generation) verify(checkpoint string) error {
	index, err := readIndex(g.fs, checkpoint)
	if err != nil {
		return err
	}
	if g.meta.Applied < index {
		return fmt.Errorf("the checkpoint is damaged: it contains entry %d, and only %d of them can be read", index, g.meta.Applied)
	}
	return nil
}

// Verify reads a checkpoint, and says what is wrong with it or up to which entry
// it goes: all that a restore needs to begin with, and with tables every block of
// them. (The tables are those of the pinset itself; reading them takes as long as
// it takes.)
func (p *Pinset) Verify(dir string, tables bool) (applied uint64, err error) {
	index, err := readIndex(p.fs, dir)
	if err != nil {
		return 0, fmt.Errorf("verify checkpoint %s: %w", dir, err)
	}
	fence := fencefs.New(p.fs, dir, "checkpoint")
	o := options(fence, nil, fence.Fail)
	o.ReadOnly, o.ErrorIfNotExists = true, true
	db, err := pebble.Open(dir, o)
	if err != nil {
		return 0, fmt.Errorf("verify checkpoint %s: %w", dir, err)
	}
	meta, err := loadMeta(db)
	err = errors.Join(err, fence.Err(), db.Close())
	if err == nil && meta.Applied < index {
		err = fmt.Errorf("it contains entry %d, and only %d of them can be read", index, meta.Applied)
	}
	if err == nil && tables {
		err = verifyTables(p.fs, dir)
	}
	// The lock is no part of a checkpoint.
	if err = errors.Join(err, p.fs.Remove(p.fs.PathJoin(dir, "LOCK"))); err != nil {
		return 0, fmt.Errorf("verify checkpoint %s: %w", dir, err)
	}
	return meta.Applied, nil
}

// verifyTables checks the checksum of every block of every table in a folder that
// nobody writes to.
func verifyTables(fsys vfs.FS, dir string) error {
	names, err := fsys.List(dir)
	if err != nil {
		return err
	}
	o := &pebble.Options{}
	o.EnsureDefaults()
	how := o.MakeReaderOptions()
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		if err := verifyTable(fsys, fsys.PathJoin(dir, name), how); err != nil {
			return fmt.Errorf("check %s: %w", name, err)
		}
	}
	return nil
}

func verifyTable(fsys vfs.FS, path string, how sstable.ReaderOptions) error {
	f, err := fsys.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	source, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(context.Background(), source, how)
	if err != nil {
		return errors.Join(err, source.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}
