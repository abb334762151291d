package backup

import (
	"bufio"
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
// `state export` prints and its `state import` reads.
type Writer struct {
	encoder *json.Encoder
	Pins    uint64 // written so far
}

// NewWriter writes to out.
func NewWriter(out io.Writer) *Writer {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return &Writer{encoder: encoder}
}

// Write writes one pin. Its revision is left out: it means nothing elsewhere.
func (w *Writer) Write(pin api.Pin) error {
	pin.Revision = 0
	if pin.Allocations == nil {
		pin.Allocations = []peer.ID{}
	}
	if err := w.encoder.Encode(pin); err != nil {
		return fmt.Errorf("write pin %s: %w", pin.Cid, err)
	}
	w.Pins++
	return nil
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
