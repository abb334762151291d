package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"

	"holdfast/api"
)

// Source is the pinset that is backed up.
type Source interface {
	// Dump shows every pin as of one log index.
	Dump(begin func(applied uint64) error, each func(api.Pin) error) error
	// Changes tells what changed after a log index; false: it no longer knows.
	Changes(since uint64) ([]api.Change, bool)
	// ClusterID is "" until the cluster has been founded.
	ClusterID() string
}

// KeeperConfig says where backups go and how many stay.
type KeeperConfig struct {
	Folder   string        // is created when missing
	Interval time.Duration // between two backups
	Keep     int           // backups of this cluster that stay, at least 1
}

// Keeper writes backups of the pinset by the clock.
type Keeper struct {
	config KeeperConfig
	source Source
	fs     vfs.FS
	logger *slog.Logger

	mu     sync.Mutex
	report api.BackupReport
	began  time.Time // of the try under way; zero: there is none
}

// NewKeeper returns a keeper that Run starts.
func NewKeeper(config KeeperConfig, source Source, fs vfs.FS, logger *slog.Logger) (*Keeper, error) {
	if config.Folder == "" || config.Interval <= 0 || config.Keep < 1 {
		return nil, fmt.Errorf("backups need a folder, an interval and a number to keep, not %q, %s and %d", config.Folder, config.Interval, config.Keep)
	}
	return &Keeper{config: config, source: source, fs: fs, logger: logger}, nil
}

const (
	// retryAfter is how soon a backup that failed is tried again, if that is
	// earlier than the next one.
	retryAfter = 10 * time.Minute
	foundPause = time.Minute // between two looks whether there is a cluster
	// stuckAfter is how long a try may take. The largest pinsets take minutes; a
	// folder on a network that is gone takes for ever, and says nothing.
	stuckAfter = time.Hour
)

// Run writes a backup when the last one is an interval old, and does so until
// ctx ends. A failure is logged and tried again: a peer goes on without backups.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		k.begin(time.Now())
		wait, err := k.next(time.Now())
		if k.source.ClusterID() == "" {
			wait, err = foundPause, nil // a new cluster, or a peer that has just joined: there is nothing yet
		} else if err == nil && wait <= 0 {
			wait = k.config.Interval
			err = k.Backup(ctx, time.Now())
		}
		if err != nil && ctx.Err() == nil {
			wait = min(k.config.Interval, retryAfter)
			k.failed(err)
			k.logger.Error("no backup of the pinset was made", "folder", k.config.Folder, "err", err, "next_try", wait)
		}
		k.begin(time.Time{})
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// next is how long from now the next backup is due, after a restart as well.
func (k *Keeper) next(now time.Time) (time.Duration, error) {
	files, err := k.list()
	if err != nil || len(files) == 0 {
		return 0, err
	}
	k.seen(files[0].at)
	// Those from the future, by a clock that was wrong, say nothing of when the
	// next is due: they must not stop them until that day.
	for _, f := range files {
		if !f.at.After(now) {
			return f.at.Add(k.config.Interval).Sub(now), nil
		}
	}
	return 0, nil
}

// Backup writes one file, unless nothing has changed since the newest, and then
// removes the oldest of those that are too many. None is removed before the new
// one was read back whole.
func (k *Keeper) Backup(ctx context.Context, now time.Time) error {
	files, err := k.list()
	if err != nil {
		return err
	}
	if len(files) > 0 {
		if changes, known := k.source.Changes(files[0].index); known && len(changes) == 0 && k.verify(files[0]) == nil {
			k.logger.Debug("no backup needed: the pinset has not changed", "since", files[0].name)
			k.succeeded(now)
			return nil
		}
	}
	file, err := k.write(ctx, now)
	if err != nil {
		return err
	}
	if err := k.verify(file); err != nil {
		return fmt.Errorf("read the backup %s back: %w", file.name, err)
	}
	k.succeeded(now)
	k.logger.Info("backup of the pinset written", "file", k.fs.PathJoin(k.config.Folder, file.name), "pins", file.pins, "index", file.index)
	if err := k.prune(file); err != nil {
		k.logger.Warn("an old backup stays", "folder", k.config.Folder, "err", err)
	}
	return nil
}

// write makes a file. Its name holds the index, which is known only when the
// dump has begun, so it is renamed in the end.
func (k *Keeper) write(ctx context.Context, now time.Time) (file, error) {
	out := file{at: now.UTC().Truncate(time.Second)}
	path := k.fs.PathJoin(k.config.Folder, unnamed)
	err := WriteFile(k.fs, path, func(to io.Writer) error {
		w := NewWriter(to)
		err := k.source.Dump(func(index uint64) error { out.index = index; return nil }, func(pin api.Pin) error {
			return errors.Join(ctx.Err(), w.Write(pin))
		})
		out.pins = w.Pins
		if err != nil {
			return err
		}
		return w.End()
	})
	if err != nil {
		return out, err
	}
	out.name = k.nameOf(out)
	if err := k.fs.Rename(path, k.fs.PathJoin(k.config.Folder, out.name)); err != nil {
		return out, fmt.Errorf("name the backup: %w", err)
	}
	return out, syncDir(k.fs, k.config.Folder)
}

// unnamed is where a backup is written.
const unnamed = "unfinished.ndjson.gz"

// verify reads a backup to its end.
func (k *Keeper) verify(f file) error {
	in, err := k.fs.Open(k.fs.PathJoin(k.config.Folder, f.name), vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	summary, err := Read(in, Rules{Whole: true}, func(int, api.Pin) error { return nil })
	if err = errors.Join(err, in.Close()); err != nil {
		return err
	}
	if summary.Pins+summary.Shards != f.pins {
		return fmt.Errorf("it holds %d pins, not %d", summary.Pins, f.pins)
	}
	return nil
}

// prune removes the oldest backups of this cluster; never the one that has just
// been read back.
func (k *Keeper) prune(good file) error {
	files, err := k.list()
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(f file) bool { return f.name == good.name })
	var problems []error
	for _, f := range files[min(len(files), k.config.Keep-1):] {
		if err := k.fs.Remove(k.fs.PathJoin(k.config.Folder, f.name)); err != nil && !oserror.IsNotExist(err) {
			problems = append(problems, fmt.Errorf("remove an old backup: %w", err))
		}
	}
	return errors.Join(problems...)
}

// file is a backup by its name.
type file struct {
	name  string
	at    time.Time
	index uint64
	pins  uint64
}

const (
	namePrefix = "pins-"
	nameSuffix = ".ndjson.gz"
	nameTime   = "20060102T150405Z"
)

// nameOf says of which cluster a backup is, of when, of which log index and how
// many pins: pins-1f2e3d4c-20261121T120000Z-1234-56.ndjson.gz.
func (k *Keeper) nameOf(f file) string {
	return fmt.Sprintf("%s%s-%s-%d-%d%s", namePrefix, k.cluster(), f.at.Format(nameTime), f.index, f.pins, nameSuffix)
}

// cluster tells backups of one cluster from those of another.
func (k *Keeper) cluster() string {
	id := k.source.ClusterID()
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, id[:min(len(id), 8)])
}

// list makes the folder and returns this cluster's backups, newest first.
func (k *Keeper) list() ([]file, error) {
	if err := k.fs.MkdirAll(k.config.Folder, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of the backups: %w", err)
	}
	names, err := k.fs.List(k.config.Folder)
	if err != nil {
		return nil, fmt.Errorf("list the backups: %w", err)
	}
	var out []file
	for _, name := range names {
		if f, ok := parseName(name, k.cluster()); ok {
			out = append(out, f)
		}
	}
	slices.SortFunc(out, func(a, b file) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(b.index, a.index)) })
	return out, nil
}

func parseName(name, cluster string) (file, bool) {
	rest, ok := strings.CutPrefix(name, namePrefix+cluster+"-")
	rest, packed := strings.CutSuffix(rest, nameSuffix)
	parts := strings.Split(rest, "-")
	if !ok || !packed || len(parts) != 3 {
		return file{}, false
	}
	at, err1 := time.Parse(nameTime, parts[0])
	index, err2 := strconv.ParseUint(parts[1], 10, 64)
	pins, err3 := strconv.ParseUint(parts[2], 10, 64)
	return file{name: name, at: at, index: index, pins: pins}, errors.Join(err1, err2, err3) == nil
}
