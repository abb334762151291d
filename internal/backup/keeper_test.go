package backup_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"holdfast/api"
	"holdfast/internal/backup"
)

// fakeSource is a pinset of some test pins; every change takes one log index.
type fakeSource struct {
	mu      sync.Mutex
	pins    int
	index   uint64
	changed uint64 // index of the last change
	cluster string
	hold    chan struct{} // if set, a dump ends when it is closed
}

func (s *fakeSource) set(pins int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
	s.pins, s.changed = pins, s.index
}

// idle is an entry that changes no pin.
func (s *fakeSource) idle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index++
}

func (s *fakeSource) ClusterID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cluster
}

func (s *fakeSource) Changes(since uint64) ([]api.Change, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed > since {
		return []api.Change{{Index: s.changed}}, true
	}
	return nil, since <= s.index
}

func (s *fakeSource) Dump(begin func(uint64) error, each func(api.Pin) error) error {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := begin(s.index); err != nil {
		return err
	}
	for i := range s.pins {
		pin := testPins()[2]
		pin.Cid = testCid(i)
		if err := each(pin); err != nil {
			return err
		}
	}
	return nil
}

// keeping runs a keeper until the returned function is called.
func keeping(t *testing.T, fs vfs.FS, source backup.Source, log io.Writer) (stop func()) {
	t.Helper()
	k, err := backup.NewKeeper(backup.KeeperConfig{Folder: "backups", Interval: time.Hour, Keep: 3}, source, fs,
		slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// kept reads the backups: how many pins each holds, oldest first.
func kept(t *testing.T, fs vfs.FS) (names []string, pins []int) {
	t.Helper()
	names, err := fs.List("backups")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names) // which is the order of time
	for _, name := range names {
		file, err := fs.Open("backups/" + name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(file)
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		got, _, err := read(data, backup.Rules{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		pins = append(pins, len(got))
	}
	return names, pins
}

func wantPins(t *testing.T, fs vfs.FS, want ...int) {
	t.Helper()
	names, got := kept(t, fs)
	if len(got) != len(want) {
		t.Fatalf("backups %v hold %v pins, want %v", names, got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("backups %v hold %v pins, want %v", names, got, want)
		}
	}
}

func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestBackupsByTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, source := vfs.NewMem(), &fakeSource{cluster: "0123456789abcdef"}
		source.set(1)
		stop := keeping(t, fs, source, io.Discard)
		synctest.Wait()
		wantPins(t, fs, 1) // the first at once
		source.idle()
		advance(90 * time.Minute)
		wantPins(t, fs, 1) // nothing has changed
		source.set(2)
		advance(time.Hour)
		wantPins(t, fs, 1, 2)
		stop()

		source.set(3)
		stop = keeping(t, fs, source, io.Discard)
		advance(time.Minute)
		wantPins(t, fs, 1, 2) // a restart makes none before its time
		advance(time.Hour)
		wantPins(t, fs, 1, 2, 3)
		source.set(4)
		advance(time.Hour)
		wantPins(t, fs, 2, 3, 4) // three are kept
		stop()

		names, _ := kept(t, fs)
		if want := "pins-01234567-20000101T040000Z-5-4.ndjson.gz"; names[2] != want {
			t.Errorf("named %s, want %s", names[2], want)
		}
		// Another cluster in the same folder, with a higher index, is another matter.
		other := &fakeSource{cluster: "fedcba9876543210", index: 1}
		other.set(9)
		stop = keeping(t, fs, other, io.Discard)
		advance(time.Minute)
		stop()
		if names, _ := kept(t, fs); len(names) != 4 {
			t.Errorf("backups %v", names)
		}
	})
}

// A peer that has just begun or joined has its first backup soon after.
func TestFirstBackupWaitsForTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, source := vfs.NewMem(), &fakeSource{}
		stop := keeping(t, fs, source, io.Discard)
		advance(90 * time.Second)
		if names, _ := fs.List("backups"); len(names) > 0 {
			t.Errorf("backups of no cluster: %v", names)
		}
		source.mu.Lock()
		source.cluster = "0123456789abcdef"
		source.mu.Unlock()
		source.set(1)
		advance(time.Minute)
		stop()
		wantPins(t, fs, 1)
	})
}

// A disk that is full for a while costs backups, and none that is there.
func TestBackupsOnAFailingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, source := vfs.NewMem(), &fakeSource{cluster: "0123456789abcdef"}
		var full atomic.Bool
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if full.Load() && op.Kind == errorfs.OpFileWrite {
				return syscall.ENOSPC
			}
			return nil
		}))
		var log bytes.Buffer
		source.set(1)
		stop := keeping(t, fs, source, &log)
		for n := 2; n <= 4; n++ {
			advance(61 * time.Minute)
			source.set(n)
		}
		advance(time.Hour)
		wantPins(t, mem, 2, 3, 4)
		full.Store(true)
		source.set(5)
		advance(3 * time.Hour)
		wantPins(t, mem, 2, 3, 4)
		full.Store(false)
		advance(11 * time.Minute) // tried again sooner than the interval
		wantPins(t, mem, 3, 4, 5)
		stop()
		if !strings.Contains(log.String(), "no space left on device") || !strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("the log says nothing of it:\n%s", log.String())
		}
	})
}

// Who asks is told of the first failure of a row, the last error, and the last
// backup that was good, also of one from before this start.
func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem, source := vfs.NewMem(), &fakeSource{cluster: "0123456789abcdef"}
		source.set(1)
		keeping(t, mem, source, io.Discard)()
		good := time.Now().UTC()
		var full atomic.Bool
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if full.Load() && op.Kind == errorfs.OpFileWrite {
				return syscall.ENOSPC
			}
			return nil
		}))
		k, err := backup.NewKeeper(backup.KeeperConfig{Folder: "backups", Interval: time.Hour, Keep: 3}, source, fs, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go k.Run(ctx)
		synctest.Wait()
		if got := k.Report(); got != (api.BackupReport{LastGood: good}) {
			t.Errorf("after a restart: %+v", got)
		}
		full.Store(true)
		source.set(2)
		advance(90 * time.Minute)
		if got := k.Report(); !strings.Contains(got.Error, "no space left") || !got.LastGood.Equal(good) || !got.Since.Equal(good.Add(time.Hour)) {
			t.Errorf("on a full disk: %+v", got)
		}
		full.Store(false)
		advance(10 * time.Minute)
		if got := k.Report(); got.Error != "" || !got.Since.IsZero() || !got.LastGood.Equal(good.Add(100*time.Minute)) {
			t.Errorf("after it has room again: %+v", got)
		}
		cancel()
		synctest.Wait()
	})
}

// A backup that was damaged where it lies is not taken for a copy of now, and
// one that is not read back whole removes nothing.
func TestDamagedBackupIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, source := vfs.NewMem(), &fakeSource{cluster: "0123456789abcdef"}
		source.set(2)
		stop := keeping(t, fs, source, io.Discard)
		synctest.Wait()
		names, _ := kept(t, fs)
		file, err := fs.Create("backups/"+names[0], vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		advance(61 * time.Minute)
		stop()
		names, pins := kept(t, fs)
		if len(names) != 2 || pins[1] != 2 {
			t.Errorf("backups %v hold %v pins", names, pins)
		}
	})
}

// Nothing is removed unless the newest backup was read back whole.
func TestUnreadableBackupRemovesNothing(t *testing.T) {
	mem, source := vfs.NewMem(), &fakeSource{cluster: "0123456789abcdef"}
	var broken atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind == errorfs.OpFileRead {
			return syscall.EIO
		}
		return nil
	}))
	k, err := backup.NewKeeper(backup.KeeperConfig{Folder: "backups", Interval: time.Hour, Keep: 1}, source, fs, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	source.set(1)
	if err := k.Backup(t.Context(), epoch); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	source.set(2)
	if err := k.Backup(t.Context(), epoch.Add(time.Hour)); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	wantPins(t, mem, 1, 2)
	broken.Store(false)
	source.set(3)
	if err := k.Backup(t.Context(), epoch.Add(2*time.Hour)); err != nil {
		t.Error(err)
	}
	wantPins(t, mem, 3)
}

func TestKeeperConfigIsChecked(t *testing.T) {
	for _, c := range []backup.KeeperConfig{{}, {Folder: "x", Interval: time.Hour}, {Folder: "x", Keep: 1}, {Interval: time.Hour, Keep: 1}} {
		if _, err := backup.NewKeeper(c, nil, nil, nil); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

// A disk that does not answer lets a backup neither succeed nor fail.
func TestReportOfHangingBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &fakeSource{cluster: "0123456789abcdef", hold: make(chan struct{})}
		k, err := backup.NewKeeper(backup.KeeperConfig{Folder: "backups", Interval: 24 * time.Hour, Keep: 3}, source, vfs.NewMem(),
			slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- k.Run(ctx) }()
		began := time.Now()
		advance(59 * time.Minute)
		if report := k.Report(); report.Error != "" {
			t.Errorf("a slow one is called stuck: %+v", report)
		}
		advance(2 * time.Minute)
		if report := k.Report(); !strings.Contains(report.Error, "not done") || !report.Since.Equal(began) || !report.LastGood.IsZero() {
			t.Errorf("after an hour: %+v", report)
		}
		close(source.hold)
		synctest.Wait()
		if report := k.Report(); report.Error != "" || report.LastGood.IsZero() {
			t.Errorf("when it is done: %+v", report)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A file from the future, which a clock that was wrong has left, does not stop
// the backups until that day.
func TestBackupFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs, source := vfs.NewMem(), &fakeSource{cluster: "c"}
		source.set(1)
		stop := keeping(t, fs, source, io.Discard)
		advance(time.Minute)
		stop()
		names, _ := kept(t, fs)
		if len(names) != 1 {
			t.Fatalf("kept %v", names)
		}
		future := strings.Replace(names[0], time.Now().UTC().Format("2006"), "2099", 1)
		if err := fs.Rename("backups/"+names[0], "backups/"+future); err != nil || future == names[0] {
			t.Fatalf("%s, %s: %v", names[0], future, err)
		}
		source.set(2)
		stop = keeping(t, fs, source, io.Discard)
		advance(time.Minute)
		source.set(3)
		advance(time.Hour)
		stop()
		if _, pins := kept(t, fs); !slices.Contains(pins, 2) || !slices.Contains(pins, 3) || len(pins) > 3 {
			t.Errorf("kept backups of %v pins", pins)
		}
	})
}
