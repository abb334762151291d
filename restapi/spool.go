package restapi

import (
	"io"
	"os"

	"holdfast/api"
)

const (
	// spoolMemory is what a spool keeps in memory; the rest is in a file.
	spoolMemory = 1 << 20
	// maxSpool bounds what one answer keeps, most of it in a file: the outputs of
	// some two million files. Temporary files may lie in memory.
	maxSpool = 256 << 20
)

// spool keeps bytes in their order until they are taken. Its zero value is empty.
type spool struct {
	memory []byte
	file   *os.File // has no name any more; nil: everything is in memory
	read   int64    // of the file
	wrote  int64    // to the file
}

func (s *spool) len() int64 { return int64(len(s.memory)) + s.wrote - s.read }

// append keeps a copy of data.
func (s *spool) append(data []byte) error {
	if s.len()+int64(len(data)) > maxSpool {
		return api.Errorf(api.CodeTooLarge, "the answer has more than %d bytes, which cannot be kept for a client that does not read yet; ask for less at a time", maxSpool)
	}
	if s.wrote == 0 && len(s.memory)+len(data) <= spoolMemory {
		s.memory = append(s.memory, data...)
		return nil
	}
	if s.file == nil {
		file, err := os.CreateTemp("", "holdfast-answer-*")
		if err != nil {
			return api.Errorf(api.CodeNoSpace, "keep the answer in a file: %w", err)
		}
		s.file = file
		if err := os.Remove(file.Name()); err != nil {
			return api.Errorf(api.CodeInternal, "keep the answer in a file: %w", err)
		}
	}
	n, err := s.file.WriteAt(data, s.wrote)
	s.wrote += int64(n)
	if err != nil {
		return api.Errorf(api.CodeNoSpace, "keep the answer in a file: %w", err)
	}
	return nil
}

// take moves the oldest bytes, some of them, into the room of buf and returns
// them; none when there are none.
func (s *spool) take(buf []byte) ([]byte, error) {
	if len(s.memory) > 0 {
		out := append(buf[:0], s.memory...)
		s.memory = s.memory[:0]
		return out, nil
	}
	if s.read == s.wrote {
		return buf[:0], nil
	}
	if cap(buf) < maxPending {
		buf = make([]byte, maxPending)
	}
	buf = buf[:min(int64(cap(buf)), s.wrote-s.read)]
	n, err := s.file.ReadAt(buf, s.read)
	s.read += int64(n)
	if n < len(buf) {
		return nil, api.Errorf(api.CodeInternal, "read the kept answer: %w", err)
	}
	if s.read == s.wrote {
		s.read, s.wrote = 0, 0
		if err := s.file.Truncate(0); err != nil {
			return nil, api.Errorf(api.CodeInternal, "read the kept answer: %w", err)
		}
	}
	return buf, nil
}

// writeTo empties the spool into w.
func (s *spool) writeTo(w io.Writer) error {
	var buf []byte
	for s.len() > 0 {
		var err error
		if buf, err = s.take(buf); err != nil {
			return err
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	return nil
}

// close forgets what was not taken.
func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close() // nothing of it is needed
	}
	*s = spool{}
}
