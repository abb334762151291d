package consensus

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	iofs "io/fs"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A snapshot travels as a magic with a version, the length of the header (four
// bytes, big endian), the header (JSON), the bytes of the files in the
// header's order, and the SHA-256 of all that. Nothing is compressed here: a
// checkpoint's tables already are.
const (
	streamMagic     = "HFSNAP\x00\x01"
	maxStreamHeader = 16 << 20
)

// streamRate is how many bytes a second all snapshots together leave a peer
// with. Encrypting, sending and storing them as fast as can be takes machines
// of a few cores whole, and the peers have pins to accept meanwhile; a pinset
// of ten million takes three quarters of a minute so.
const (
	streamRate  = 40 << 20
	streamBurst = 1 << 20
)

type streamHeader struct {
	MachineIndex uint64         `json:"machine_index"`
	Files        []snapshotFile `json:"files"`
}

// encodeHeader returns everything before the files.
func encodeHeader(meta snapshotMeta) ([]byte, error) {
	text, err := json.Marshal(streamHeader{MachineIndex: meta.MachineIndex, Files: meta.Files})
	if err != nil {
		return nil, fmt.Errorf("encode header of snapshot %s: %w", meta.ID, err)
	}
	out := binary.BigEndian.AppendUint32([]byte(streamMagic), uint32(len(text)))
	return append(out, text...), nil
}

func streamSize(header []byte, files []snapshotFile) int64 {
	size := int64(len(header)) + sha256.Size
	for _, file := range files {
		size += file.Size
	}
	return size
}

// snapshotReader streams a snapshot. The machine of the same process does not
// read it, but takes the folder (see fsm.Restore).
type snapshotReader struct {
	store  *snapshots
	meta   snapshotMeta
	stream io.Reader // nil until the first Read
	sum    hash.Hash
	file   vfs.File // being read, or nil
	closed bool
}

// dir returns the folder of the checkpoint. It stays until Close.
func (r *snapshotReader) dir() string { return r.store.path(r.meta.ID, stateFolder) }

// Read returns the next piece of the stream.
func (r *snapshotReader) Read(out []byte) (int, error) {
	if r.stream == nil {
		if err := r.store.check(r.meta); err != nil {
			return 0, err
		}
		header, err := encodeHeader(r.meta)
		if err != nil {
			return 0, err
		}
		r.sum = sha256.New()
		parts := []io.Reader{strings.NewReader(string(header))}
		for _, file := range r.meta.Files {
			parts = append(parts, &fileReader{owner: r, file: file, left: file.Size})
		}
		r.stream = io.MultiReader(io.TeeReader(io.MultiReader(parts...), r.sum), &sumReader{sum: r.sum})
	}
	n, err := r.stream.Read(out[:min(len(out), streamBurst)])
	time.Sleep(r.store.pace.ReserveN(time.Now(), n).Delay())
	return n, err
}

// Close ends the use of the snapshot.
func (r *snapshotReader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	var err error
	if r.file != nil {
		err = r.file.Close()
	}
	r.store.release(r.meta.ID)
	return err
}

// fileReader reads exactly the size that was announced.
type fileReader struct {
	owner *snapshotReader
	file  snapshotFile
	left  int64
}

func (f *fileReader) Read(out []byte) (int, error) {
	r := f.owner
	if f.left == 0 {
		if r.file == nil {
			return 0, io.EOF
		}
		err := r.file.Close()
		r.file = nil
		if err != nil {
			return 0, fmt.Errorf("read %s of snapshot: %w", f.file.Name, err)
		}
		return 0, io.EOF
	}
	if r.file == nil {
		file, err := r.store.fs.Open(r.store.path(r.meta.ID, stateFolder, f.file.Name), vfs.SequentialReadsOption)
		if err != nil {
			return 0, fmt.Errorf("read snapshot: %w", err)
		}
		r.file = file
	}
	n, err := r.file.Read(out[:min(int64(len(out)), f.left)])
	f.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && f.left > 0:
		return n, fmt.Errorf("read %s of snapshot: it has become shorter: %w", f.file.Name, io.ErrUnexpectedEOF)
	case err != nil && !errors.Is(err, io.EOF):
		return n, fmt.Errorf("read %s of snapshot: %w", f.file.Name, err)
	}
	return n, nil
}

// sumReader yields the sum that stands when it is first read.
type sumReader struct {
	sum  hash.Hash
	rest *strings.Reader
}

func (s *sumReader) Read(out []byte) (int, error) {
	if s.rest == nil {
		s.rest = strings.NewReader(string(s.sum.Sum(nil)))
	}
	return s.rest.Read(out)
}

// unpacker writes the files of a stream into a folder. Nothing in the stream
// is believed: its sum is known only at the end.
type unpacker struct {
	fs  vfs.FS
	dir string
	sum hash.Hash

	pending []byte        // start of a part that has not fully come
	header  *streamHeader // nil until it has come
	next    int           // file that is being written, or about to be
	file    vfs.File
	left    int64
	trailer []byte
	err     error // the first failure; all later calls return it
}

func newUnpacker(fs vfs.FS, dir string) *unpacker {
	return &unpacker{fs: fs, dir: dir, sum: sha256.New()}
}

// Write takes the next piece of the stream, of any length.
func (u *unpacker) Write(data []byte) (int, error) {
	if u.err != nil {
		return 0, u.err
	}
	total := len(data)
	for len(data) > 0 {
		n, err := u.step(data)
		if err != nil {
			u.err = fmt.Errorf("receive snapshot: %w", err)
			return total - len(data), u.err
		}
		data = data[n:]
	}
	return total, nil
}

func (u *unpacker) step(data []byte) (int, error) {
	switch {
	case u.header == nil:
		return u.takeHeader(data)
	case u.next < len(u.header.Files):
		return u.takeFile(data)
	default:
		n := min(sha256.Size-len(u.trailer), len(data))
		if n == 0 {
			return 0, errors.New("bytes follow its end")
		}
		u.trailer = append(u.trailer, data[:n]...)
		return n, nil
	}
}

func (u *unpacker) takeHeader(data []byte) (int, error) {
	const fixed = len(streamMagic) + 4
	want := fixed
	if len(u.pending) >= fixed {
		want += int(binary.BigEndian.Uint32(u.pending[len(streamMagic):fixed]))
	}
	n := min(want-len(u.pending), len(data))
	u.pending = append(u.pending, data[:n]...)
	if len(u.pending) < want {
		return n, nil
	}
	if want == fixed {
		if err := checkMagic(u.pending[:len(streamMagic)]); err != nil {
			return n, err
		}
		if length := binary.BigEndian.Uint32(u.pending[len(streamMagic):]); length == 0 || length > maxStreamHeader {
			return n, fmt.Errorf("its header claims %d bytes", length)
		}
		return n, nil
	}
	var header streamHeader
	if err := json.Unmarshal(u.pending[fixed:], &header); err != nil {
		return n, fmt.Errorf("read header: %w", err)
	}
	if err := header.validate(); err != nil {
		return n, err
	}
	u.sum.Write(u.pending)
	u.header, u.pending = &header, nil
	if err := u.fs.MkdirAll(u.dir, 0o700); err != nil {
		return n, err
	}
	return n, u.openFiles()
}

// checkMagic refuses what is no snapshot, or one of another version, which is
// the last byte.
func checkMagic(magic []byte) error {
	last := len(streamMagic) - 1
	if string(magic[:last]) != streamMagic[:last] {
		return errors.New("it begins like no snapshot")
	}
	if version := magic[last]; version != streamMagic[last] {
		return fmt.Errorf("it has version %d, and this program knows version %d: the peer that sent it runs a newer one; install the same here", version, streamMagic[last])
	}
	return nil
}

// validate refuses names that would leave the folder.
func (h streamHeader) validate() error {
	seen := map[string]bool{}
	for _, file := range h.Files {
		if !iofs.ValidPath(file.Name) || file.Name == "." || strings.Contains(file.Name, `\`) || seen[file.Name] {
			return fmt.Errorf("a file has the name %q", file.Name)
		}
		if file.Size < 0 {
			return fmt.Errorf("%s claims %d bytes", file.Name, file.Size)
		}
		seen[file.Name] = true
	}
	return nil
}

// openFiles opens the next file that has bytes; empty ones on the way are
// written at once.
func (u *unpacker) openFiles() error {
	for u.next < len(u.header.Files) {
		want := u.header.Files[u.next]
		path := u.fs.PathJoin(u.dir, want.Name)
		if err := u.fs.MkdirAll(u.fs.PathDir(path), 0o700); err != nil {
			return err
		}
		file, err := u.fs.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		u.file, u.left = file, want.Size
		if u.left > 0 {
			return nil
		}
		if err := u.closeFile(); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) takeFile(data []byte) (int, error) {
	n := int(min(u.left, int64(len(data))))
	u.sum.Write(data[:n])
	if _, err := u.file.Write(data[:n]); err != nil {
		return n, err
	}
	u.left -= int64(n)
	if u.left > 0 {
		return n, nil
	}
	if err := u.closeFile(); err != nil {
		return n, err
	}
	return n, u.openFiles()
}

func (u *unpacker) closeFile() error {
	err := errors.Join(u.file.Sync(), u.file.Close())
	u.file = nil
	u.next++
	return err
}

// finish checks the sum, and makes the folder durable.
func (u *unpacker) finish() (streamHeader, error) {
	if u.err != nil {
		return streamHeader{}, u.err
	}
	if u.header == nil || u.next < len(u.header.Files) || len(u.trailer) < sha256.Size {
		return streamHeader{}, fmt.Errorf("receive snapshot: %w", io.ErrUnexpectedEOF)
	}
	if string(u.sum.Sum(nil)) != string(u.trailer) {
		return streamHeader{}, errors.New("receive snapshot: its checksum does not match its content")
	}
	synced := map[string]bool{}
	for _, file := range u.header.Files {
		for dir := u.fs.PathDir(u.fs.PathJoin(u.dir, file.Name)); len(dir) >= len(u.dir) && !synced[dir]; dir = u.fs.PathDir(dir) {
			synced[dir] = true
			if err := syncDir(u.fs, dir); err != nil {
				return streamHeader{}, err
			}
		}
	}
	return *u.header, syncDir(u.fs, u.dir)
}

// abort closes what is open.
func (u *unpacker) abort() {
	if u.file != nil {
		_ = u.file.Close() // its content is thrown away
		u.file = nil
	}
}
