package consensus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

const (
	stableVersion = 1
	// The names that raft gives to the two halves of a vote.
	keyVoteTerm      = "LastVoteTerm"
	keyVoteCandidate = "LastVoteCand"
	keyCurrentTerm   = "CurrentTerm"
)

// Stable keeps raft's term and vote in one small file that is replaced
// atomically. Raft writes a vote in two steps, first its term and then the
// candidate; a crash in between would pair the new term with the old
// candidate, and the peer might vote twice (hashicorp/raft#661). So the term
// is held back until the candidate comes, and both reach the disk as one.
type Stable struct {
	fs   vfs.FS
	path string

	mu       sync.Mutex
	state    stableState
	voteTerm *uint64 // of a vote whose candidate has not come yet
}

// joinAgain is what to do with a peer that cannot be sure of what it promised.
const joinAgain = "start it again in case the disk could not be read for a moment; if that does not help, " +
	"remove this peer with 'cluster-ctl peers rm' on another one, and let it join again with a new folder"

type stableState struct {
	Version int               `json:"version"`
	Numbers map[string]uint64 `json:"numbers"`
	Bytes   map[string][]byte `json:"bytes"`
}

var _ raft.StableStore = (*Stable)(nil)

// NewStable opens the file, or makes an empty store when there is none. The
// folder of path must exist.
func NewStable(fs vfs.FS, path string) (*Stable, error) {
	s := &Stable{fs: fs, path: path, state: stableState{
		Version: stableVersion, Numbers: map[string]uint64{}, Bytes: map[string][]byte{}}}
	data, err := readFile(fs, path)
	if oserror.IsNotExist(err) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read term and vote: %w", err)
	}
	// What cannot be read must never look like a peer that has not voted (INV-TERM).
	if err := checkSeal(data); err != nil {
		return nil, fmt.Errorf("read term and vote in %s: %w; %s", path, err, joinAgain)
	}
	s.state = stableState{}
	if err := json.Unmarshal(data, &s.state); err != nil {
		return nil, fmt.Errorf("read term and vote in %s: it is damaged: %w; %s", path, err, joinAgain)
	}
	if s.state.Version != stableVersion {
		return nil, fmt.Errorf("read term and vote in %s: it has version %d, this program knows version %d", path, s.state.Version, stableVersion)
	}
	if s.state.Numbers == nil || s.state.Bytes == nil {
		return nil, fmt.Errorf("read term and vote in %s: it is damaged: fields are missing; %s", path, joinAgain)
	}
	return s, nil
}

// Set stores bytes durably; a vote's candidate together with its term
// (INV-TERM).
func (s *Stable) Set(key, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.state.clone()
	next.Bytes[string(key)] = bytes.Clone(value)
	if string(key) == keyVoteCandidate && s.voteTerm != nil {
		next.Numbers[keyVoteTerm] = *s.voteTerm
		s.voteTerm = nil // on failure raft votes anew, with the term first
	}
	return s.replace(next)
}

// SetUint64 stores a number durably, except the term of a vote: that waits for
// the candidate.
func (s *Stable) SetUint64(key []byte, value uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if string(key) == keyVoteTerm {
		s.voteTerm = &value
		return nil
	}
	if old, ok := s.state.Numbers[string(key)]; ok && old == value {
		return nil // raft writes the term again at every start
	}
	next := s.state.clone()
	next.Numbers[string(key)] = value
	return s.replace(next)
}

// Get returns the bytes, or nil when there are none.
func (s *Stable) Get(key []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.state.Bytes[string(key)]), nil
}

// GetUint64 returns the number, or 0 when there is none. A term that waits for
// its candidate does not show.
func (s *Stable) GetUint64(key []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Numbers[string(key)], nil
}

func (s stableState) clone() stableState {
	return stableState{Version: stableVersion, Numbers: maps.Clone(s.Numbers), Bytes: maps.Clone(s.Bytes)}
}

func (s *Stable) replace(next stableState) error {
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("encode term and vote: %w", err)
	}
	if err := replaceFile(s.fs, s.path, seal(data)); err != nil {
		return fmt.Errorf("write term and vote: %w", err)
	}
	s.state = next
	return nil
}

func readFile(fs vfs.FS, path string) (_ []byte, err error) {
	file, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return io.ReadAll(file)
}

// replaceFile makes path hold data, durably and at once: after a crash it has
// the old content or the new.
func replaceFile(fs vfs.FS, path string, data []byte) error {
	temporary := path + ".tmp"
	if err := writeFile(fs, temporary, data); err != nil {
		return err
	}
	if err := fs.Rename(temporary, path); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(path))
}

// writeFile writes and syncs a new file, but not its folder.
func writeFile(fs vfs.FS, path string, data []byte) error {
	file, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := file.Sync(); err != nil {
		return errors.Join(err, file.Close())
	}
	return file.Close()
}

func syncDir(fs vfs.FS, path string) error {
	dir, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
