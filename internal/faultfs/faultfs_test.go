package faultfs_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/internal/faultfs"
)

func content() []byte {
	out := make([]byte, 4096)
	for i := range out {
		out[i] = byte(i/7 + 1)
	}
	return out
}

func fileIn(t *testing.T, fs vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Clone(data)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func read(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(f)
	return data, errors.Join(err, f.Close())
}

// differing returns the first and the last place at which two differ, and how
// many bits do.
func differing(a, b []byte) (first, last, bits int) {
	first = -1
	for i := range min(len(a), len(b)) {
		for d := a[i] ^ b[i]; d != 0; d &= d - 1 {
			if first < 0 {
				first = i
			}
			last = i
			bits++
		}
	}
	return first, last, bits
}

// Each kind does what it says, once, and then all is well again.
func TestKinds(t *testing.T) {
	want := content()
	for _, kind := range faultfs.Kinds {
		fs := faultfs.New(vfs.NewMem())
		fileIn(t, fs, "a", want)
		fs.Set(faultfs.Plan{Kind: kind, Seed: 3})
		got, err := read(fs, "a")
		first, last, bits := differing(got, want)
		switch kind {
		case faultfs.Bit:
			if err != nil || len(got) != len(want) || bits != 1 {
				t.Errorf("%s: %d bytes, %d bits differ, %v", kind, len(got), bits, err)
			}
		case faultfs.Zeros, faultfs.Garbage:
			if err != nil || len(got) != len(want) || bits == 0 || first/512 != last/512 {
				t.Errorf("%s: %d bytes, %d to %d differ, %v", kind, len(got), first, last, err)
			}
		case faultfs.Short:
			if err != nil || len(got) >= len(want) || bits != 0 {
				t.Errorf("%s: %d bytes, %d bits differ, %v", kind, len(got), bits, err)
			}
		case faultfs.EIO:
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("%s: %v", kind, err)
			}
		case faultfs.EMFILE:
			if !errors.Is(err, syscall.EMFILE) {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if _, hits := fs.Counts(); hits != 1 {
			t.Errorf("%s: %d reads were spoiled", kind, hits)
		}
		if again, err := read(fs, "a"); err != nil || !bytes.Equal(again, want) {
			t.Errorf("%s: it did not end: %v", kind, err)
		}
	}
}

// The same plan does the same again.
func TestPlansAreDeterministic(t *testing.T) {
	for _, kind := range faultfs.Kinds {
		var seen [2][]byte
		for i := range seen {
			fs := faultfs.New(vfs.NewMem())
			fileIn(t, fs, "a", content())
			fs.Set(faultfs.Plan{Kind: kind, Seed: 11, Count: -1, Chance: 0.3})
			for range 20 {
				data, err := read(fs, "a")
				seen[i] = append(seen[i], data...)
				if err != nil {
					seen[i] = append(seen[i], err.Error()...)
				}
			}
			if reads, hits := fs.Counts(); hits == 0 || hits == reads {
				t.Errorf("%s: %d of %d reads were spoiled with a chance of 0.3", kind, hits, reads)
			}
		}
		if !bytes.Equal(seen[0], seen[1]) {
			t.Errorf("%s: two runs of one plan differ", kind)
		}
	}
}

// A plan counts the reads of the paths that it is for.
func TestPlansCount(t *testing.T) {
	fs := faultfs.New(vfs.NewMem())
	fileIn(t, fs, "a", content())
	fileIn(t, fs, "b", content())
	fs.Set(faultfs.Plan{Kind: faultfs.EMFILE, After: 1, Count: 2, Match: func(path string) bool { return strings.HasSuffix(path, "b") }})
	var got []bool
	for range 4 {
		for _, name := range []string{"a", "b"} {
			_, err := read(fs, name)
			got = append(got, err == nil)
		}
	}
	if want := []bool{true, true, true, false, true, false, true, true}; string(bits(got)) != string(bits(want)) {
		t.Errorf("got %v, want %v", got, want)
	}
	fs.Set(faultfs.Plan{Kind: faultfs.EIO, Count: -1})
	if _, err := fs.List(""); !errors.Is(err, syscall.EIO) {
		t.Errorf("list: %v", err)
	}
	if _, err := fs.Stat("a"); !errors.Is(err, syscall.EIO) {
		t.Errorf("stat: %v", err)
	}
	fs.Set(faultfs.Plan{Kind: faultfs.EMFILE, Count: -1})
	if _, err := fs.List(""); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("list: %v", err)
	}
	if _, err := fs.OpenDir(""); !errors.Is(err, syscall.EMFILE) {
		t.Errorf("open folder: %v", err)
	}
	fs.Heal()
	if _, err := read(fs, "b"); err != nil {
		t.Errorf("healed: %v", err)
	}
}

func bits(flags []bool) []byte {
	var out []byte
	for _, f := range flags {
		if f {
			out = append(out, '1')
		} else {
			out = append(out, '0')
		}
	}
	return out
}

// What lasts is at one place whoever reads it and under whatever name, until
// the file is written anew.
func TestLasting(t *testing.T) {
	want := content()
	for _, kind := range faultfs.Kinds[:5] {
		fs := faultfs.New(vfs.NewMem())
		fileIn(t, fs, "a", want)
		fs.Set(faultfs.Plan{Kind: kind, Lasting: true, Seed: 5})
		first, err := read(fs, "a")
		if kind != faultfs.EIO && err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		again, err2 := read(fs, "a")
		if !bytes.Equal(first, again) || bytes.Equal(again, want) || (err == nil) != (err2 == nil) {
			t.Errorf("%s: the second read is not as the first: %v, %v", kind, err, err2)
		}
		f, err := fs.Open("a")
		if err != nil {
			t.Fatal(err)
		}
		at := make([]byte, len(want))
		if n, _ := f.ReadAt(at, 0); !bytes.Equal(at[:n], first[:n]) || kind != faultfs.EIO && n != len(first) {
			t.Errorf("%s: ReadAt gives %d bytes, Read %d", kind, n, len(first))
		}
		_ = f.Close()
		if err := fs.Link("a", "b"); err != nil {
			t.Fatal(err)
		}
		if err := fs.Rename("a", "c"); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"b", "c"} {
			if data, _ := read(fs, name); !bytes.Equal(data, first) {
				t.Errorf("%s: another name mends it", kind)
			}
		}
		fileIn(t, fs, "c", want)
		if data, err := read(fs, "c"); err != nil || !bytes.Equal(data, want) {
			t.Errorf("%s: a new file has it too: %v", kind, err)
		}
	}
}
