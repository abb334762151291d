package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"golang.org/x/time/rate"
)

// A snapshot is a folder: <id>/state holds the machine's checkpoint and
// <id>/meta.json tells of it. It is made as tmp-<id>, synced with the meta file
// last, and renamed: a folder whose name has no tmp- is whole.
const (
	metaVersion     = 1
	metaFile        = "meta.json"
	stateFolder     = "state"
	temporaryPrefix = "tmp-"
)

// snapshotMeta is the content of the meta file.
type snapshotMeta struct {
	Version int    `json:"version"`
	ID      string `json:"id"`
	Index   uint64 `json:"index"`
	Term    uint64 `json:"term"`
	// MachineIndex is Machine.Applied() of the checkpoint. It is smaller than
	// Index when the last entries were no commands.
	MachineIndex       uint64         `json:"machine_index"`
	Servers            []snapshotPeer `json:"servers"`
	ConfigurationIndex uint64         `json:"configuration_index"`
	Files              []snapshotFile `json:"files"` // in the order of their names
}

type snapshotPeer struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
}

type snapshotFile struct {
	Name string `json:"name"` // below the state folder, with / between folders
	Size int64  `json:"size"`
}

// snapshots is a raft.SnapshotStore whose local snapshots are checkpoints of
// the machine: folders of hard links that cost milliseconds and no space.
type snapshots struct {
	fs     vfs.FS
	dir    string
	logger *slog.Logger
	pace   *rate.Limiter // of all streams that are read, in bytes

	mu     sync.Mutex
	next   uint64         // number of the next snapshot made here
	inUse  map[string]int // readers by id
	doomed map[string]bool
	passed map[string]error // passed over, because they are damaged: what was found
	known  map[string]snapshotMeta

	verify func(dir string, whole bool) (uint64, error) // of verifier; nil: there is no way
	spoilt chan struct{}                                // the newest turned out to be damaged

	last     *watermark   // index of the newest snapshot, 0: none
	size     atomic.Int64 // bytes of the newest snapshot
	newestID atomic.Pointer[string]
}

var _ raft.SnapshotStore = (*snapshots)(nil)

func newSnapshots(fs vfs.FS, dir string, logger *slog.Logger) *snapshots {
	return &snapshots{fs: fs, dir: dir, logger: logger, pace: rate.NewLimiter(streamRate, streamBurst), inUse: map[string]int{}, doomed: map[string]bool{}, passed: map[string]error{}, known: map[string]snapshotMeta{}, spoilt: make(chan struct{}, 1), last: newWatermark()}
}

// open makes the folder and removes what a crash left in it.
func (s *snapshots) open() error {
	if err := s.fs.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("create folder of the snapshots: %w", err)
	}
	if err := syncDir(s.fs, s.fs.PathDir(s.dir)); err != nil {
		return fmt.Errorf("sync folder of the snapshots: %w", err)
	}
	names, err := s.fs.List(s.dir)
	if err != nil {
		return fmt.Errorf("list snapshots: %w", err)
	}
	for _, name := range names {
		var number, index uint64
		if strings.HasPrefix(name, temporaryPrefix) {
			if err := s.fs.RemoveAll(s.path(name)); err != nil {
				return fmt.Errorf("remove unfinished snapshot %s: %w", name, err)
			}
		} else if _, err := fmt.Sscanf(name, idFormat, &index, &number); err == nil {
			s.next = max(s.next, number+1)
		}
	}
	return s.reap()
}

func (s *snapshots) path(elements ...string) string {
	return s.fs.PathJoin(append([]string{s.dir}, elements...)...)
}

// An id sorts by index, then by the order in which snapshots were made.
const idFormat = "%016x-%08x"

func (s *snapshots) newID(index uint64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	number := s.next
	s.next++
	return fmt.Sprintf(idFormat, index, number)
}

// Create begins a snapshot. Raft calls it to store what a leader sends, and
// for a snapshot of our own before fsmSnapshot.Persist.
func (s *snapshots) Create(_ raft.SnapshotVersion, index, term uint64, configuration raft.Configuration,
	configurationIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	meta := snapshotMeta{Version: metaVersion, ID: s.newID(index), Index: index, Term: term, ConfigurationIndex: configurationIndex}
	for _, server := range configuration.Servers {
		meta.Servers = append(meta.Servers, snapshotPeer{ID: string(server.ID), Address: string(server.Address), Voter: server.Suffrage == raft.Voter})
	}
	return &sink{store: s, meta: meta}, nil
}

// temporary makes an empty folder for a snapshot that is about to be made.
func (s *snapshots) temporary() (string, error) {
	dir := s.path(temporaryPrefix + s.newID(0))
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("create folder for a snapshot: %w", err)
	}
	return dir, nil
}

// missingPause is how long raft waits for the answer that there is no snapshot to
// send. It asks again at once while it hands leadership over, and would keep a core
// busy with it.
const missingPause = 20 * time.Millisecond

// List returns the whole snapshots, that with the highest index first.
func (s *snapshots) List() ([]*raft.SnapshotMeta, error) {
	metas, err := s.metas()
	if err != nil || len(metas) == 0 {
		time.Sleep(missingPause)
		return nil, err
	}
	var out []*raft.SnapshotMeta
	for _, meta := range metas {
		described, err := meta.describe()
		if err != nil {
			return nil, err
		}
		out = append(out, described)
	}
	return out, nil
}

// newest returns the newest snapshot, or false.
func (s *snapshots) newest() (snapshotMeta, bool, error) {
	metas, err := s.metas()
	if err != nil || len(metas) == 0 {
		return snapshotMeta{}, false, err
	}
	return metas[0], true, nil
}

// note remembers the newest snapshot.
func (s *snapshots) note(meta snapshotMeta) {
	s.last.advance(meta.Index)
	var size int64
	for _, file := range meta.Files {
		size += file.Size
	}
	s.size.Store(size)
	s.newestID.Store(&meta.ID)
}

// made is when the newest snapshot was made or came, by its file; zero: there is
// none, or the file does not say.
func (s *snapshots) made() time.Time {
	id := s.newestID.Load()
	if id == nil {
		return time.Time{}
	}
	info, err := s.fs.Stat(s.path(*id, metaFile))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// names lists the whole snapshots, newest first.
func (s *snapshots) names() ([]string, error) {
	names, err := s.fs.List(s.dir)
	if oserror.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return strings.HasPrefix(name, temporaryPrefix) || s.isDoomed(name)
	})
	slices.Sort(names)
	slices.Reverse(names)
	return names, nil
}

// errUnread says that something could not be read for now, rather than that it is
// not what it was.
var errUnread = errors.New("it cannot be read")

func unread(err error) error {
	if oserror.IsNotExist(err) {
		return err
	}
	return fmt.Errorf("%w: %w", errUnread, err)
}

// metas reads the meta files, newest snapshot first. A damaged snapshot is
// left out: the one before it, or another peer, serves.
func (s *snapshots) metas() ([]snapshotMeta, error) {
	names, err := s.names()
	if err != nil {
		return nil, err
	}
	var out []snapshotMeta
	for _, name := range names {
		meta, known, passed := s.judged(name)
		if passed {
			continue
		}
		if !known {
			meta, err = s.readMeta(name)
			if err != nil && errors.Is(err, errUnread) {
				return nil, fmt.Errorf("read snapshot %s: %w", name, err)
			}
			if oserror.IsNotExist(err) && s.gone(name) {
				continue // it was removed meanwhile
			}
			if err != nil {
				s.logger.Warn("ignoring a damaged snapshot", "id", name, "error", err)
				s.passOver(name, err)
				continue
			}
			s.mu.Lock()
			s.known[name] = meta
			s.mu.Unlock()
		}
		out = append(out, meta)
	}
	if len(out) > 0 {
		s.note(out[0])
	}
	return out, nil
}

func (s *snapshots) gone(id string) bool {
	_, err := s.fs.Stat(s.path(id))
	return oserror.IsNotExist(err)
}

func (s *snapshots) isDoomed(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.doomed[id]
}

// judged returns what was found when a snapshot was looked at first: raft must
// find the snapshot that the machine was made of, and no other, however the disk
// reads the next time.
func (s *snapshots) judged(id string) (meta snapshotMeta, known, passed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	meta, known = s.known[id]
	return meta, known, s.passed[id] != nil
}

// passOver leaves a snapshot out from now on. It stays where it is, and the next
// start tries it again, until there are enough whole ones that are newer.
func (s *snapshots) passOver(id string, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.passed[id] = why
}

// damaged returns what was found in the snapshots that are passed over, by id.
func (s *snapshots) damaged() map[string]error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.passed)
}

// any says whether there is a snapshot, whole or not.
func (s *snapshots) any() (bool, error) {
	names, err := s.names()
	return len(names) > 0, err
}

// verifyState looks at a checkpoint that should have been taken at an index.
func (s *snapshots) verifyState(dir string, index uint64, whole bool) error {
	if s.verify == nil {
		return nil
	}
	applied, err := s.verify(dir, whole)
	if err == nil && applied != index {
		err = fmt.Errorf("checkpoint %s contains entry %d, and should contain %d", dir, applied, index)
	}
	return err
}

// check looks at each byte of a snapshot before it is sent. One that is wrong is
// passed over from then on, because no peer could use it, and another is made.
// One that cannot be read for now is tried again.
func (s *snapshots) check(meta snapshotMeta) error {
	err := s.verifyState(s.path(meta.ID, stateFolder), meta.MachineIndex, true)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("send snapshot %s: %w", meta.ID, err)
	if cause := syscall.Errno(0); errors.As(err, &cause) {
		return err
	}
	s.passOver(meta.ID, err)
	s.logger.Error("a snapshot cannot be sent, because it is damaged", "id", meta.ID, "error", err)
	select {
	case s.spoilt <- struct{}{}:
	default:
	}
	return err
}

func (s *snapshots) readMeta(id string) (snapshotMeta, error) {
	var meta snapshotMeta
	data, err := readFile(s.fs, s.path(id, metaFile))
	if err != nil {
		return meta, fmt.Errorf("read %s: %w", metaFile, unread(err))
	}
	if err := checkSeal(data); err != nil {
		return meta, fmt.Errorf("read %s: %w", metaFile, err)
	}
	if err := json.Unmarshal(data, &meta); err != nil {
		return meta, fmt.Errorf("read %s: %w", metaFile, err)
	}
	if meta.Version != metaVersion {
		return meta, fmt.Errorf("read %s: it has version %d, this program knows version %d", metaFile, meta.Version, metaVersion)
	}
	if meta.ID != id {
		return meta, fmt.Errorf("read %s: it tells of snapshot %q", metaFile, meta.ID)
	}
	for _, file := range meta.Files {
		info, err := s.fs.Stat(s.path(id, stateFolder, file.Name))
		if err != nil {
			return meta, fmt.Errorf("look for %s: %w", file.Name, unread(err))
		}
		if info.Size() != file.Size {
			return meta, fmt.Errorf("%s has %d bytes instead of %d", file.Name, info.Size(), file.Size)
		}
	}
	return meta, nil
}

// describe tells raft of a snapshot.
func (m snapshotMeta) describe() (*raft.SnapshotMeta, error) {
	header, err := encodeHeader(m)
	if err != nil {
		return nil, err
	}
	return &raft.SnapshotMeta{
		Version: raft.SnapshotVersionMax, ID: m.ID, Index: m.Index, Term: m.Term,
		Configuration: m.configuration(), ConfigurationIndex: m.ConfigurationIndex,
		Size: streamSize(header, m.Files),
	}, nil
}

func (m snapshotMeta) configuration() raft.Configuration {
	var out raft.Configuration
	for _, server := range m.Servers {
		suffrage := raft.Nonvoter
		if server.Voter {
			suffrage = raft.Voter
		}
		out.Servers = append(out.Servers, raft.Server{ID: raft.ServerID(server.ID), Address: raft.ServerAddress(server.Address), Suffrage: suffrage})
	}
	return out
}

// Open returns a snapshot as a stream of exactly the size that its meta tells.
// The snapshot stays until the stream is closed.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	s.inUse[id]++
	s.mu.Unlock()
	meta, err := s.readMeta(id)
	if err != nil {
		s.release(id)
		time.Sleep(missingPause)
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	described, err := meta.describe()
	if err != nil {
		s.release(id)
		return nil, nil, err
	}
	return described, &snapshotReader{store: s, meta: meta}, nil
}

// release ends a reader's use of a snapshot, and removes the snapshot when it
// only waited for that.
func (s *snapshots) release(id string) {
	s.mu.Lock()
	s.inUse[id]--
	remove := s.inUse[id] == 0 && s.doomed[id]
	if s.inUse[id] == 0 {
		delete(s.inUse, id)
	}
	s.mu.Unlock()
	if remove {
		s.remove(id)
	}
}

// reap removes all but the newest snapshots.
func (s *snapshots) reap() error {
	metas, err := s.metas()
	if err != nil {
		return err
	}
	if len(metas) < retainSnapshots {
		return nil
	}
	names, err := s.names()
	if err != nil {
		return err
	}
	oldest := metas[retainSnapshots-1].ID
	for _, id := range names { // whole or not
		if id >= oldest {
			continue
		}
		s.mu.Lock()
		s.doomed[id] = true
		busy := s.inUse[id] > 0
		s.mu.Unlock()
		if !busy {
			s.remove(id)
		}
	}
	return nil
}

// remove deletes a doomed snapshot. Its name goes first, so that a crash
// leaves a temporary folder and never half a snapshot.
func (s *snapshots) remove(id string) {
	grave := s.path(temporaryPrefix + id)
	err := s.fs.Rename(s.path(id), grave)
	if err == nil {
		err = errors.Join(syncDir(s.fs, s.dir), s.fs.RemoveAll(grave))
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		s.logger.Warn("cannot remove an old snapshot", "id", id, "error", err)
		return
	}
	s.mu.Lock()
	delete(s.doomed, id)
	delete(s.known, id)
	delete(s.passed, id)
	s.mu.Unlock()
}

// files lists a folder and its folders, in the order of the names.
func (s *snapshots) files(dir, prefix string) ([]snapshotFile, error) {
	names, err := s.fs.List(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	var out []snapshotFile
	for _, name := range names {
		info, err := s.fs.Stat(s.fs.PathJoin(dir, name))
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			out = append(out, snapshotFile{Name: prefix + name, Size: info.Size()})
			continue
		}
		below, err := s.files(s.fs.PathJoin(dir, name), prefix+name+"/")
		if err != nil {
			return nil, err
		}
		out = append(out, below...)
	}
	return out, nil
}
