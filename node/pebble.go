package node

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	pebbleds "github.com/ipfs/go-ds-pebble"
	"github.com/ipfs/kubo/misc/fsutil"
	"github.com/ipfs/kubo/repo"
	"github.com/ipfs/kubo/repo/fsrepo"
)

// separatedBytes is from what size on Pebble keeps a value beside its tables,
// so that compactions do not carry file chunks around; see DESIGN.md.
const separatedBytes = 4 << 10

// pebbleOptions are those of a repository that holds blocks of all sizes and
// must be small at rest. While gone is set no file of values is rewritten, since
// one that is not there would end the process.
func pebbleOptions(gone *atomic.Bool) *pebble.Options {
	o := &pebble.Options{
		FormatMajorVersion:    pebble.FormatNewest,
		MemTableSize:          16 << 20,
		LBaseMaxBytes:         256 << 20,
		L0CompactionThreshold: 4,
		L0StopWritesThreshold: 24,
		BytesPerSync:          1 << 20,
	}
	o.FS = blobFS{vfs.Default}
	o.EnsureDefaults() // makes the levels
	o.Logger = nil     // the datastore sets its own
	// Pebble would end the process; whoever reads gets the error as well, and tells.
	o.EventListener = &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10) // every fetch asks first for what is not there
	}
	o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		garbage := 0.2
		if gone.Load() {
			garbage = 1 // never
		}
		return pebble.ValueSeparationPolicy{
			Enabled:     true,
			MinimumSize: separatedBytes,
			// Keys are hashes: nothing is read in order, so how scattered the
			// values of one table are does not matter.
			MaxBlobReferenceDepth: 100_000,
			RewriteMinimumAge:     time.Minute,
			TargetGarbageRatio:    garbage,
		}
	}
	return o
}

// pebbleConfig is a "pebbleds" entry of Kubo's datastore spec: the same files as
// Kubo's own plugin makes, opened with our options.
type pebbleConfig struct {
	path      string
	cacheSize int64 // bytes; 0: Pebble's 8 MiB
}

func parsePebbleConfig(params map[string]any) (fsrepo.DatastoreConfig, error) {
	path, ok := params["path"].(string)
	if !ok {
		return nil, fmt.Errorf("datastore spec: the path of pebbleds is %v, not a string", params["path"])
	}
	c := pebbleConfig{path: path}
	switch size := params["cacheSize"].(type) {
	case int:
		c.cacheSize = int64(size)
	case float64:
		c.cacheSize = int64(size)
	}
	return c, nil
}

// DiskSpec says what makes two configurations the same files.
func (c pebbleConfig) DiskSpec() fsrepo.DiskSpec {
	return map[string]any{"type": "pebbleds", "path": c.path}
}

// Create opens the database.
func (c pebbleConfig) Create(repoPath string) (repo.Datastore, error) {
	path := c.path
	if !filepath.IsAbs(path) {
		path = filepath.Join(repoPath, path)
	}
	if err := fsutil.DirWritable(path); err != nil {
		return nil, err
	}
	gone := new(atomic.Bool)
	store, err := openPebble(path, c.cacheSize, gone)
	if err != nil {
		return nil, fmt.Errorf("%w; if files in %s are gone or damaged, put them back, or move the whole repository away: the peer then makes a new one and fetches its pins again", err, path)
	}
	// What is written in the tables has its file; else a reader meets a panic.
	if files, err := filepath.Glob(filepath.Join(path, "*.blob")); err == nil {
		gone.Store(store.DB.Metrics().BlobFiles.LiveCount > uint64(len(files)))
	}
	return newPebbleStore(store, gone), nil
}

func openPebble(path string, cacheSize int64, gone *atomic.Bool) (_ *pebbleds.Datastore, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("Pebble cannot open %s: %v", path, r)
		}
	}()
	return pebbleds.NewDatastore(path, pebbleds.WithCacheSize(cacheSize), pebbleds.WithPebbleOpts(pebbleOptions(gone)))
}
