package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// blobFS keeps a spoilt file of separated values from ending the process:
// Pebble v2.1.6 panics where the footer of such a file is not as it was
// written. (One that is gone when the database is opened is recoverFileGone's.)
// Opening it is an input/output error here, for which Pebble, and
// what reads from it, is prepared.
type blobFS struct{ vfs.FS }

// Unwrap gives Pebble the file system below.
func (f blobFS) Unwrap() vfs.FS { return f.FS }

// Open opens a file, and looks at its end if it is one of separated values.
func (f blobFS) Open(name string, options ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, options...)
	if !strings.HasSuffix(name, ".blob") {
		return file, err
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s is gone: %w", name, syscall.EIO)
	}
	if err != nil {
		return nil, err
	}
	if err := checkBlobFooter(file); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), file.Close())
	}
	return file, nil
}

const (
	blobFooter = 38                                 // bytes: a checksum, 26 others, blobMagic
	blobMagic  = "\xf0\x9f\xaa\xb3\xf0\x9f\xa6\x80" // Pebble's
)

func checkBlobFooter(file vfs.File) error {
	st, err := file.Stat()
	if err != nil {
		return err
	}
	var footer [blobFooter]byte
	if st.Size() < blobFooter {
		return fmt.Errorf("it has %d bytes only: %w", st.Size(), syscall.EIO)
	}
	if _, err := file.ReadAt(footer[:], st.Size()-blobFooter); err != nil {
		return err
	}
	sum := crc32.Checksum(footer[4:], crc32.MakeTable(crc32.Castagnoli))
	masked := (sum>>15 | sum<<17) + 0xa282ead8 // as LevelDB and its heirs do
	if binary.LittleEndian.Uint32(footer[:]) != masked || string(footer[blobFooter-len(blobMagic):]) != blobMagic {
		return fmt.Errorf("its end is not as it was written: %w", syscall.EIO)
	}
	return nil
}
