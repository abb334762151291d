package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"holdfast/api"
)

// small limits, so that little reaches them.
var small = Limits{Files: 1000, Each: 400, Memory: 100, Small: 60}

func open(t *testing.T, limits Limits) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "spool"), limits)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func used(t *testing.T, s *Store, memory, files int64) {
	t.Helper()
	if m, f := s.Used(); m != memory || f != files {
		t.Errorf("%d bytes of memory and %d of files are used, want %d and %d", m, f, memory, files)
	}
}

func write(t *testing.T, q *Spool, n int) {
	t.Helper()
	if _, err := q.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

// What is written comes out in order, whoever is faster, through memory and file.
func TestOrder(t *testing.T) {
	for _, s := range []*Store{open(t, Limits{Small: 1000}), InMemory()} {
		q := s.New()
		var want bytes.Buffer
		for i := range 20_000 {
			fmt.Fprintf(&want, "%d\n", i)
		}
		var writing sync.WaitGroup
		writing.Go(func() {
			defer q.End()
			for piece := want.Bytes(); len(piece) > 0; piece = piece[min(len(piece), 77):] {
				if _, err := q.Write(piece[:min(len(piece), 77)]); err != nil {
					t.Error(err)
					return
				}
			}
		})
		got, err := io.ReadAll(q)
		writing.Wait()
		if err != nil || !bytes.Equal(got, want.Bytes()) {
			t.Errorf("read %d bytes, %v; want %d", len(got), err, want.Len())
		}
		used(t, s, 0, 0)
		q.Close()
	}
}

// All spools have one budget; what is read whole or closed is free for others.
func TestBudget(t *testing.T) {
	s := open(t, small)
	var spools []*Spool
	for range 3 {
		q := s.New()
		write(t, q, 60)  // in memory, but of the second one
		write(t, q, 200) // in a file
		spools = append(spools, q)
	}
	used(t, s, 60, 720)
	if _, err := spools[0].Write(make([]byte, 300)); api.CodeOf(err) != api.CodeTooLarge {
		t.Errorf("one spool over its limit: %v", err)
	}
	if _, err := spools[0].Write(make([]byte, 199)); err != nil {
		t.Errorf("one spool up to its limit: %v", err)
	}
	if _, err := spools[1].Write(make([]byte, 100)); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("all spools over their limit: %v", err)
	}
	spools[0].Close()
	spools[0].Close()
	used(t, s, 0, 520)
	write(t, spools[1], 100)
	spools[2].End()
	if n, err := io.Copy(io.Discard, spools[2]); err != nil || n != 260 {
		t.Errorf("read %d bytes, %v", n, err)
	}
	used(t, s, 0, 360)
	for _, q := range spools {
		q.Close()
	}
	used(t, s, 0, 0)
	if _, err := spools[1].Write([]byte("x")); err == nil {
		t.Error("a closed spool takes more")
	}
}

// A folder holds nothing of a process that is gone, and no names of what is kept.
func TestLeftovers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.MkdirAll(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"answer-1", "folder/file"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("left"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	q := s.New()
	write(t, q, 300)
	used(t, s, 0, 300)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("the folder holds %v, %v", left, err)
	}
	q.Close()

	file, err := os.CreateTemp(dir, "answer-*") // as where an open file keeps its name
	if err != nil {
		t.Fatal(err)
	}
	if err := (named{file}).Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("after it was closed the folder holds %v, %v", left, err)
	}
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, small); err == nil {
		t.Error("a file is taken for the folder")
	}
}

// broken is a file whose writes and reads fail.
type broken struct {
	File
	writing, reading error
}

func (b broken) WriteAt(p []byte, off int64) (int, error) {
	if b.writing != nil {
		n, _ := b.File.WriteAt(p[:len(p)/2], off)
		return n, b.writing
	}
	return b.File.WriteAt(p, off)
}

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if b.reading != nil {
		return 0, b.reading
	}
	return b.File.ReadAt(p, off)
}

func TestDiskFails(t *testing.T) {
	dir := t.TempDir()
	fault := errors.New("the disk broke")
	full := &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
	for name, test := range map[string]struct {
		creating, writing, reading error
		want                       api.Code
	}{
		"full":                {writing: full, want: api.CodeNoSpace},
		"full for a new file": {creating: full, want: api.CodeNoSpace},
		"write fails":         {writing: fault, want: api.CodeInternal},
		"read fails":          {reading: fault, want: api.CodeInternal},
	} {
		s := New(func() (File, error) {
			file, err := createIn(dir)
			return broken{file, test.writing, test.reading}, errors.Join(err, test.creating)
		}, small)
		q := s.New()
		write(t, q, 60)
		_, err := q.Write(make([]byte, 100))
		if test.reading == nil {
			if api.CodeOf(err) != test.want {
				t.Errorf("%s: %v", name, err)
			}
			if _, again := q.Write([]byte("x")); !errors.Is(again, err) {
				t.Errorf("%s: what follows the gap: %v", name, again)
			}
			used(t, s, 60, 0)
		}
		q.End()
		n, err := io.Copy(io.Discard, q)
		if n != 60 || (err != nil) != (test.reading != nil) || err != nil && api.CodeOf(err) != test.want {
			t.Errorf("%s: read %d bytes, %v", name, n, err)
		}
		q.Close()
		used(t, s, 0, 0)
	}
}
