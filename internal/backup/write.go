package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Writer writes pins, one JSON object a line: what the incumbent's
// `state export` prints and its `state import` reads. The first pin says that
// the last one will say that it is the last, in fields that others pass over, so
// that an export that was cut off is known as one wherever it was cut.
type Writer struct {
	out  io.Writer
	last []byte // the newest pin, which waits until it is known whether it is the last
	Pins uint64 // so far
}

// Fields of the first and the last pin of an export.
const (
	fieldBegins = "export_begins" // true
	fieldEnds   = "export_ends"   // how many pins the export has
)

// NewWriter writes to out. The user must call End after the last pin.
func NewWriter(out io.Writer) *Writer { return &Writer{out: out} }

// Write writes one pin. Its revision is left out: it means nothing elsewhere.
func (w *Writer) Write(pin api.Pin) error {
	if err := w.flush(""); err != nil {
		return err
	}
	pin.Revision = 0
	if pin.Allocations == nil {
		pin.Allocations = []peer.ID{}
	}
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(pin); err != nil {
		return fmt.Errorf("write pin %s: %w", pin.Cid, err)
	}
	w.Pins++
	if w.last = bytes.TrimSuffix(bytes.TrimSpace(line.Bytes()), []byte("}")); w.Pins == 1 {
		w.last = fmt.Appendf(w.last, ",%q:true", fieldBegins)
	}
	return nil
}

// End writes what waits.
func (w *Writer) End() error { return w.flush(fmt.Sprintf(",%q:%d", fieldEnds, w.Pins)) }

func (w *Writer) flush(more string) error {
	if w.last == nil {
		return nil
	}
	_, err := w.out.Write(append(append(w.last, more...), "}\n"...))
	w.last = nil
	return err
}

// WriteFile writes a file that appears whole or not at all, also through a
// crash: under a temporary name, synced, and renamed. Bytes are compressed when
// the name ends in .gz. A file of that name is replaced.
func WriteFile(fs vfs.FS, path string, write func(io.Writer) error) (err error) {
	temp := path + temporarySuffix
	file, err := fs.Create(temp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = fs.Remove(temp) // best effort; the next write of the name replaces it
		}
	}()
	buffered := bufio.NewWriterSize(file, 256<<10)
	if err := writeBody(buffered, path, write); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := errors.Join(buffered.Flush(), file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := fs.Rename(temp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(fs, fs.PathDir(path))
}

const temporarySuffix = ".tmp"

func writeBody(out io.Writer, path string, write func(io.Writer) error) error {
	if !strings.HasSuffix(path, ".gz") {
		return write(out)
	}
	packed := gzip.NewWriter(out)
	if err := write(packed); err != nil {
		return err
	}
	return packed.Close()
}

func syncDir(fs vfs.FS, dir string) error {
	if dir == "" {
		dir = "."
	}
	folder, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open folder %s: %w", dir, err)
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}
