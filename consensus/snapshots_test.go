package consensus

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

var testConfiguration = raft.Configuration{Servers: []raft.Server{
	{ID: "a", Address: "a", Suffrage: raft.Voter}, {ID: "b", Address: "b", Suffrage: raft.Nonvoter}}}

func openSnapshots(t testing.TB, fs vfs.FS) *snapshots {
	t.Helper()
	s := newSnapshots(fs, "/data/snapshots", slog.New(slog.DiscardHandler))
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	return s
}

// machineAt returns a machine that has applied one command at each index.
func machineAt(t *testing.T, fs vfs.FS, index uint64) *fakeMachine {
	t.Helper()
	m := &fakeMachine{fs: fs}
	for i := uint64(1); i <= index; i++ {
		if _, err := m.Apply(i, [][]byte{fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// takeSnapshot does what raft does for a snapshot of its own.
func takeSnapshot(s *snapshots, m Machine, index uint64) (string, error) {
	f := &fsm{machine: m, store: s, mark: newWatermark(), seen: index, fatal: func(error) {}, logger: slog.New(slog.DiscardHandler)}
	snapshot, err := f.Snapshot()
	if err != nil {
		return "", err
	}
	defer snapshot.Release()
	target, err := s.Create(1, index, 7, testConfiguration, 3, nil)
	if err != nil {
		return "", err
	}
	if err := snapshot.Persist(target); err != nil {
		return "", errors.Join(err, target.Cancel())
	}
	return target.ID(), target.Close()
}

// receive does what raft does with a snapshot that a leader sends, in pieces.
func receive(s *snapshots, meta *raft.SnapshotMeta, stream io.Reader, piece int) (string, error) {
	target, err := s.Create(1, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, nil)
	if err != nil {
		return "", err
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{target}, struct{ io.Reader }{stream}, make([]byte, piece)); err != nil {
		return "", errors.Join(err, target.Cancel())
	}
	return target.ID(), target.Close()
}

func ids(t *testing.T, s *snapshots) []string {
	t.Helper()
	list, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, meta := range list {
		out = append(out, meta.ID)
	}
	return out
}

// leftovers fails when anything but whole snapshots is in the folder.
func leftovers(t *testing.T, s *snapshots) {
	t.Helper()
	names, err := s.fs.List(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	whole := ids(t, s)
	for _, name := range names {
		if !slices.Contains(whole, name) {
			t.Errorf("%s was left behind", name)
		}
	}
}

func TestSnapshotTravels(t *testing.T) {
	from := vfs.NewMem()
	s := openSnapshots(t, from)
	m := machineAt(t, from, 40)
	id, err := takeSnapshot(s, m, 42) // two entries without commands follow
	if err != nil {
		t.Fatal(err)
	}
	if len(m.state.Commands) != 40 {
		t.Fatal("the machine changed")
	}
	meta, reader, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	if meta.Index != 42 || meta.Term != 7 || meta.ConfigurationIndex != 3 || meta.Version != 1 ||
		fmt.Sprint(meta.Configuration) != fmt.Sprint(testConfiguration) {
		t.Errorf("meta %+v", meta)
	}
	stream, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(reader.Close(), reader.Close()); err != nil {
		t.Fatal(err)
	}
	if int64(len(stream)) != meta.Size {
		t.Fatalf("%d bytes were announced, %d came", meta.Size, len(stream))
	}
	for _, piece := range []int{1, 7, 4096, 1 << 20} {
		fs := vfs.NewMem()
		other := openSnapshots(t, fs)
		id, err := receive(other, meta, bytes.NewReader(stream), piece)
		if err != nil {
			t.Fatalf("pieces of %d: %v", piece, err)
		}
		received, err := other.readMeta(id)
		if err != nil || received.MachineIndex != 40 {
			t.Fatalf("pieces of %d: %+v, %v", piece, received, err)
		}
		copied := &fakeMachine{fs: fs}
		if err := copied.Restore(other.path(id, stateFolder)); err != nil || fmt.Sprint(copied.state) != fmt.Sprint(m.state) {
			t.Fatalf("pieces of %d: %v", piece, err)
		}
		leftovers(t, other)
	}
}

// Whatever byte of a stream is wrong or missing, nothing comes of it.
func TestDamagedStreamIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	s := openSnapshots(t, fs)
	id, err := takeSnapshot(s, &smallMachine{fs: fs}, 5)
	if err != nil {
		t.Fatal(err)
	}
	meta, reader, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	other := openSnapshots(t, vfs.NewMem())
	try := func(name string, data []byte) {
		t.Helper()
		if id, err := receive(other, meta, bytes.NewReader(data), 64); err == nil {
			t.Errorf("%s: became snapshot %s", name, id)
		}
	}
	for i := range stream {
		damaged := bytes.Clone(stream)
		damaged[i] ^= 0x20
		try(fmt.Sprintf("byte %d", i), damaged)
		try(fmt.Sprintf("cut at %d", i), stream[:i])
	}
	try("a byte more", append(bytes.Clone(stream), 0))
	for _, name := range []string{"../x", "/x", "a/../../x", "", ".", "a//b", `a\b`} {
		try("name "+name, streamOf(fmt.Sprintf(`{"files":[{"name":%q,"size":0}]}`, name)))
	}
	try("name twice", streamOf(`{"files":[{"name":"a","size":0},{"name":"a","size":0}]}`))
	try("negative size", streamOf(`{"files":[{"name":"a","size":-1}]}`))
	leftovers(t, other)
	if len(ids(t, other)) != 0 {
		t.Error("there are snapshots")
	}
	if _, err := receive(other, meta, bytes.NewReader(streamOf(`{"files":[{"name":"a","size":0}]}`)), 64); err != nil {
		t.Errorf("a whole stream was refused: %v", err)
	}
}

// streamOf makes a stream of a header whose files are all empty.
func streamOf(header string) []byte {
	out := binary.BigEndian.AppendUint32([]byte(streamMagic), uint32(len(header)))
	out = append(out, header...)
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// smallMachine has a checkpoint of few bytes.
type smallMachine struct{ fs vfs.FS }

func (*smallMachine) Apply(uint64, [][]byte) ([]any, error) { return nil, nil }
func (*smallMachine) Applied() uint64                       { return 5 }
func (*smallMachine) Restore(string) error                  { return nil }
func (m *smallMachine) Checkpoint(dir string) error {
	return errors.Join(m.fs.MkdirAll(dir, 0o700), writeFile(m.fs, m.fs.PathJoin(dir, "a"), []byte("content")), syncDir(m.fs, dir))
}

func TestTwoSnapshotsAreKept(t *testing.T) {
	fs := vfs.NewMem()
	s := openSnapshots(t, fs)
	var made []string
	take := func(index uint64) {
		t.Helper()
		id, err := takeSnapshot(s, &smallMachine{fs: fs}, index)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, id)
	}
	take(10)
	take(20)
	_, reader, err := s.Open(made[0]) // being sent to somebody
	if err != nil {
		t.Fatal(err)
	}
	take(30)
	take(30) // as when the leader sends one of the same index
	if got := fmt.Sprint(ids(t, s)); got != fmt.Sprint([]string{made[3], made[2]}) {
		t.Fatalf("snapshots %v of %v", got, made)
	}
	if data, err := io.ReadAll(reader); err != nil || !strings.Contains(string(data), "content") {
		t.Fatalf("the snapshot in use is gone: %v", err)
	}
	if err := reader.Close(); err != nil {
		t.Fatal(err)
	}
	leftovers(t, s)
	again := openSnapshots(t, fs)
	if id, err := takeSnapshot(again, &smallMachine{fs: fs}, 30); err != nil || slices.Contains(made, id) {
		t.Fatalf("%s, %v", id, err)
	}
	if _, _, err := s.Open("nothing"); err == nil {
		t.Error("an unknown snapshot was opened")
	}
}

// A damaged snapshot is passed over, and the one before it serves.
func TestDamagedSnapshotIsIgnored(t *testing.T) {
	for name, damage := range map[string]func(*snapshots, string) error{
		"no meta":     func(s *snapshots, id string) error { return s.fs.Remove(s.path(id, metaFile)) },
		"broken meta": func(s *snapshots, id string) error { return writeFile(s.fs, s.path(id, metaFile), []byte("{")) },
		"newer meta": func(s *snapshots, id string) error {
			return writeFile(s.fs, s.path(id, metaFile), []byte(`{"version":2}`))
		},
		"no file":    func(s *snapshots, id string) error { return s.fs.Remove(s.path(id, stateFolder, "a")) },
		"short file": func(s *snapshots, id string) error { return writeFile(s.fs, s.path(id, stateFolder, "a"), nil) },
		"other id": func(s *snapshots, id string) error {
			data, err := readFile(s.fs, s.path(id, metaFile))
			return errors.Join(err, writeFile(s.fs, s.path(id, metaFile), bytes.Replace(data, []byte(id), []byte("x"), 1)))
		},
	} {
		fs := vfs.NewMem()
		s := openSnapshots(t, fs)
		first, err := takeSnapshot(s, &smallMachine{fs: fs}, 10)
		if err != nil {
			t.Fatal(err)
		}
		second, err := takeSnapshot(s, &smallMachine{fs: fs}, 20)
		if err != nil {
			t.Fatal(err)
		}
		if err := damage(s, second); err != nil {
			t.Fatal(err)
		}
		s = openSnapshots(t, fs)
		if got := ids(t, s); len(got) != 1 || got[0] != first {
			t.Errorf("%s: snapshots %v, want %s", name, got, first)
		}
		if told := s.damaged(); len(told) != 1 || told[second] == nil {
			t.Errorf("%s: told of %v", name, told)
		}
		// It is told of until it is gone, which it is behind two whole ones.
		for index := range uint64(2) {
			if len(s.damaged()) != 1 {
				t.Errorf("%s: forgotten with %d newer ones", name, index)
			}
			if _, err := takeSnapshot(s, &smallMachine{fs: fs}, 30+index); err != nil {
				t.Fatal(err)
			}
			if err := s.reap(); err != nil {
				t.Fatal(err)
			}
		}
		if names, err := s.names(); err != nil || len(names) != 2 || len(s.damaged()) != 0 {
			t.Errorf("%s: in the end there are %v, %v, told of %v", name, names, err, s.damaged())
		}
	}
}

// Whichever file operation fails while a snapshot is made or received, and
// whether the machine crashes then or not: there is the old snapshot, or the
// new one, whole. After a success the new one has survived the crash.
func TestEveryFailureLeavesWholeSnapshots(t *testing.T) {
	source := vfs.NewMem()
	sent := openSnapshots(t, source)
	id, err := takeSnapshot(sent, &smallMachine{fs: source}, 20)
	if err != nil {
		t.Fatal(err)
	}
	meta, reader, err := sent.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(*snapshots) (string, error){
		"made":     func(s *snapshots) (string, error) { return takeSnapshot(s, &smallMachine{fs: s.fs}, 20) },
		"received": func(s *snapshots) (string, error) { return receive(s, meta, bytes.NewReader(stream), 10) },
	} {
		for i := int32(0); ; i++ {
			fs := crashableDir(t)
			s := openSnapshots(t, fs)
			old, err := takeSnapshot(s, &smallMachine{fs: fs}, 10)
			if err != nil {
				t.Fatal(err)
			}
			index := errorfs.OnIndex(i)
			s.fs = errorfs.Wrap(fs, index)
			made, makeErr := make(s)
			crashed := openSnapshots(t, fs.CrashClone(vfs.CrashCloneCfg{}))
			s.fs = fs
			for which, store := range map[string]*snapshots{"live": s, "crashed": crashed, "reopened": openSnapshots(t, fs)} {
				got := ids(t, store)
				switch {
				case makeErr == nil && !slices.Equal(got, []string{made, old}):
					t.Fatalf("%s, operation %d, %s: made %s, and there are %v", name, i, which, made, got)
				case makeErr != nil && !slices.Contains(got, old):
					t.Fatalf("%s, operation %d, %s: the old snapshot is gone, there are %v", name, i, which, got)
				}
				for _, id := range got {
					_, reader, err := store.Open(id)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, reader); err != nil {
						t.Fatalf("%s, operation %d, %s: %v", name, i, which, err)
					}
					_ = reader.Close()
				}
				if which != "live" {
					leftovers(t, store)
				}
			}
			if makeErr == nil && index.Load() >= 0 {
				t.Logf("%s: %d operations", name, i)
				break
			}
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{}, 1)
	f.Add(streamOf(`{"machine_index":3,"files":[{"name":"a","size":0},{"name":"b/c","size":0}]}`), 5)
	f.Add(streamOf(`{"files":[{"name":"../a","size":0}]}`), 500)
	f.Fuzz(func(t *testing.T, data []byte, piece int) {
		fs := vfs.NewMem()
		s := newSnapshots(fs, "/data/snapshots", slog.New(slog.DiscardHandler))
		if err := s.open(); err != nil {
			t.Fatal(err)
		}
		_, err := receive(s, &raft.SnapshotMeta{Index: 1}, bytes.NewReader(data), 1+max(0, piece)%4096)
		if names, _ := fs.List("/"); len(names) != 1 {
			t.Fatalf("files beside the folder: %v", names)
		}
		names, listErr := fs.List("/data/snapshots")
		if listErr != nil || (err != nil && len(names) != 0) {
			t.Fatalf("left behind: %v, %v", names, listErr)
		}
	})
}

// Streams that are read at one time share what may leave the peer.
func TestSnapshotStreamsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size, readers = 16 << 20, 2
		fs := vfs.NewMem()
		s := openSnapshots(t, fs)
		if err := fs.MkdirAll(s.path("large", stateFolder), 0o700); err != nil {
			t.Fatal(err)
		}
		file, err := fs.Create(s.path("large", stateFolder, "table"), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		s.inUse["large"] = readers
		began := time.Now()
		var reading sync.WaitGroup
		for range readers {
			reading.Go(func() {
				r := &snapshotReader{store: s, meta: snapshotMeta{ID: "large", Files: []snapshotFile{{Name: "table", Size: size}}}}
				n, err := io.Copy(io.Discard, r)
				if err = errors.Join(err, r.Close()); err != nil || n < size {
					t.Errorf("%d bytes: %v", n, err)
				}
			})
		}
		reading.Wait()
		const least = time.Second * (readers*size - streamBurst) / streamRate
		if took := time.Since(began); took < least || took > least+100*time.Millisecond {
			t.Errorf("it took %s, not %s", took, least)
		}
	})
}

// While raft hands leadership over to a peer that needs a snapshot, it asks for one
// again and again without a pause of its own.
func TestMissingSnapshotTakesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openSnapshots(t, vfs.NewMem())
		for name, ask := range map[string]func() error{
			"none": func() error { _, err := s.List(); return err },
			"gone": func() error {
				_, _, err := s.Open(s.newID(1))
				if err == nil {
					t.Error("a snapshot was opened that is not there")
				}
				return nil
			},
		} {
			began := time.Now()
			if err := ask(); err != nil {
				t.Error(err)
			}
			if time.Since(began) == 0 {
				t.Errorf("%s: the answer came at once", name)
			}
		}
	})
}

// One snapshot may come from the leader while another is made here: each cleans up
// after itself, and neither removes what the other counts on.
func TestReapingAtOnce(t *testing.T) {
	fs := vfs.NewMem()
	s := openSnapshots(t, fs)
	m := &smallMachine{fs: fs}
	var group sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := s.reap(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for index := uint64(5); index < 300; index++ {
		if _, err := takeSnapshot(s, m, index); err != nil {
			t.Error(err)
		}
		list, err := s.List()
		if err != nil || len(list) == 0 || list[0].Index != index {
			t.Fatalf("%d snapshots are left after that up to %d, %v", len(list), index, err)
		}
	}
	close(done)
	group.Wait()
	if damaged := s.damaged(); len(damaged) > 0 {
		t.Errorf("what was removed counts as damaged: %v", damaged)
	}
}
