package state

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/state/statepb"
)

// cacheBytes bounds the blocks that are kept uncompressed in memory, the filters
// of the tables above all: some 15 MB for ten million pins. Pebble takes what its
// memtables need out of the cache, so that comes on top.
const cacheBytes = 32 << 20

// Pinset is what the cluster has agreed to keep, and who its members are. All
// methods may be called from any goroutine; Apply and Restore wait for one
// another, readers wait for nobody.
type Pinset struct {
	fs    vfs.FS
	dir   string
	cache *pebble.Cache

	limits limits // theLimits, but in tests
	narrow int    // narrowKeys, but in tests
	known  uint32 // version of commands: CommandVersion, but in tests

	writer   sync.Mutex // held by Apply and Restore; guards the next two
	broken   error      // why Apply must not go on
	lastName string     // of the newest database folder

	mu      sync.Mutex // guards what follows
	gen     *generation
	closed  bool
	changed chan struct{}

	surveyDue chan struct{} // wakes Survey

	closing     atomic.Bool // ends listings that are under way
	generations sync.WaitGroup
	closeErr    error // of the last generation; written before generations is done
}

// Open opens the pinset in dir, creating both. A pinset in a newer format is
// refused with code invalid, a damaged one with ErrDamaged. The caller sees to it that no other process has
// it open (Pebble locks it too).
func Open(fs vfs.FS, dir string) (*Pinset, error) { return OpenKnowing(fs, dir, CommandVersion) }

// OpenKnowing is Open for a program that knows commands up to another version,
// so that tests and simulations can mix versions.
func OpenKnowing(fs vfs.FS, dir string, known uint32) (*Pinset, error) {
	name, remains, err := openFolder(fs, dir)
	if err != nil {
		return nil, err
	}
	p := &Pinset{fs: fs, dir: dir, cache: pebble.NewCache(cacheBytes + 3*memTableBytes), limits: theLimits, narrow: narrowKeys, known: known, changed: make(chan struct{}), surveyDue: make(chan struct{}, 1), lastName: name}
	folder := fs.PathJoin(dir, name)
	create := name == firstGeneration
	if err := checkMark(fs, folder); err != nil {
		p.cache.Unref()
		return nil, err
	}
	if p.gen, err = openGeneration(fs, folder, p.cache, create, known); errors.Is(err, ErrDamaged) {
		// Once more: what was wrong on the way is right the next time.
		p.gen, err = openGeneration(fs, folder, p.cache, create, known)
	}
	if err != nil {
		p.cache.Unref()
		return nil, err
	}
	p.generations.Add(1)
	// Only now: what is removed must not turn out to be all there was.
	for _, name := range remains {
		if err := fs.RemoveAll(fs.PathJoin(dir, name)); err != nil {
			return nil, errors.Join(fmt.Errorf("remove remains of a restore: %w", err), p.Close())
		}
	}
	return p, nil
}

// Close waits for Apply and Restore and for all readers, whose listings end
// with an error at their next step, and closes the database. It must not be
// called from within a listing.
func (p *Pinset) Close() error {
	p.writer.Lock()
	defer p.writer.Unlock()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.closing.Store(true)
	g := p.gen
	p.mu.Unlock()
	p.release(g)
	p.generations.Wait()
	p.cache.Unref()
	return p.closeErr
}

// acquire returns the database of now. The caller must release it.
func (p *Pinset) acquire() (*generation, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed()
	}
	p.gen.refs++
	return p.gen, nil
}

func errClosed() error { return api.Errorf(api.CodeUnavailable, "the pinset is closed") }

func (p *Pinset) release(g *generation) {
	p.mu.Lock()
	g.refs--
	last, doomed := g.refs == 0, g.doomed
	p.mu.Unlock()
	if !last {
		return
	}
	err := g.db.Close()
	if doomed {
		// What cannot be removed now is removed at the next start.
		_ = p.fs.RemoveAll(g.dir)
	} else if err != nil {
		p.closeErr = fmt.Errorf("close pinset: %w", err)
	}
	p.generations.Done()
}

// notify wakes who waits for a change.
func (p *Pinset) notify() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Changed returns a channel that the next Apply or Restore closes. Take it
// before reading, or a change between the two is missed.
func (p *Pinset) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// current is the database of now for what is held in memory: it can be read
// even when the database is closed already.
func (p *Pinset) current() *generation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gen
}

// Applied is the last log index whose effects are here.
func (p *Pinset) Applied() uint64 {
	g := p.current()
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.meta.Applied
}

// ClusterID is the name of the cluster, "" before InitClusterCommand.
func (p *Pinset) ClusterID() string {
	g := p.current()
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.cluster
}

// Stats are counters that are kept up to date by every Apply.
type Stats struct {
	Applied    uint64
	Pins       uint64                 // all pins
	Everywhere uint64                 // of these, the ones that every peer holds
	Types      map[api.PinType]uint64 // types without pins are left out
	Peers      map[peer.ID]uint64     // pins allocated to a peer by name; Everywhere comes on top
}

// Stats returns the counters of one moment.
func (p *Pinset) Stats() Stats {
	g := p.current()
	g.mu.RLock()
	meta, counts := g.copyCounts()
	peers := *g.peers.Load()
	g.mu.RUnlock()
	out := Stats{Applied: meta.Applied, Pins: meta.Pins, Everywhere: meta.Everywhere,
		Types: map[api.PinType]uint64{}, Peers: map[peer.ID]uint64{}}
	for number, count := range meta.Types {
		if count > 0 {
			out.Types[typeNames[statepb.Type(number)]] = count
		}
	}
	for number, count := range counts {
		if count > 0 {
			out.Peers[peers[number-1]] = count
		}
	}
	return out
}

// DiskBytes is what the database takes on the disk; 0 when the pinset is closed.
func (p *Pinset) DiskBytes() uint64 {
	g, err := p.acquire()
	if err != nil {
		return 0
	}
	defer p.release(g)
	return g.db.Metrics().DiskSpaceUsage()
}

// The folder of a pinset holds CURRENT, a file with the name of the folder of
// the database that counts. Restore makes another and changes CURRENT.
const (
	currentFile     = "CURRENT"
	currentTemp     = "CURRENT.tmp"
	folderPrefix    = "db-"
	firstGeneration = folderPrefix + "000001"
)

// openFolder returns the name of the database's folder, and of what an
// interrupted restore left behind.
func openFolder(fs vfs.FS, dir string) (current string, remains []string, err error) {
	if err := makeDir(fs, dir); err != nil {
		return "", nil, fmt.Errorf("create folder of the pinset: %w", err)
	}
	names, err := fs.List(dir)
	if err != nil {
		return "", nil, fmt.Errorf("read folder of the pinset: %w", err)
	}
	if current, err = readCurrent(fs, dir); err != nil {
		return "", nil, err
	}
	databases := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !strings.HasPrefix(name, folderPrefix) })
	if current == "" {
		if len(databases) > 0 {
			return "", nil, fmt.Errorf("folder of the pinset %s holds %s but no file %s that names the database: it is damaged; remove the folder to fetch the pinset from the other peers", dir, databases[0], currentFile)
		}
		// CURRENT comes first: a database without it would look like damage.
		return firstGeneration, nil, writeCurrent(fs, dir, firstGeneration)
	}
	if len(databases) > 0 && !slices.Contains(databases, current) {
		return "", nil, fmt.Errorf("%s in %s is damaged: it names %s, and there is only %s; remove the folder to fetch the pinset from the other peers", currentFile, dir, current, strings.Join(databases, ", "))
	}
	for _, name := range names {
		if name == currentTemp || strings.HasPrefix(name, folderPrefix) && name != current {
			remains = append(remains, name)
		}
	}
	return current, remains, nil
}
