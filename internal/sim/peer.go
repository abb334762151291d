package sim

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/config"
	"holdfast/consensus"
	"holdfast/internal/daemon"
	"holdfast/internal/faultfs"
	"holdfast/node/fake"
	"holdfast/rpc"
)

// Peer is what survives the crashes of a peer: its identity and its disks.
type Peer struct {
	daemon.Identity
	Name    string
	address raft.ServerAddress
	number  int        // from 0
	removed bool       // it is no member any more
	knows   uint32     // version of commands that its program knows; 0: the real one
	IPFS    peer.ID    // identity of its IPFS node
	Disk    *fake.Disk // of its IPFS node

	cluster *Cluster
	config  config.Config
	info    daemon.ClusterInfo
	fs      *vfs.MemFS
	logs    *raft.InmemStore
	fault   atomic.Pointer[func(fake.Op) error]
	skew    atomic.Int64                // by which its clock is wrong, a time.Duration
	slow    atomic.Int64                // longest time that raft's disk takes for a write, a time.Duration
	faulty  *faultfs.Plan               // how the disk goes wrong in reading from the next start on
	floor   uint64                      // the applied index that the next start must find at least
	now     atomic.Pointer[incarnation] // nil: it has no process
}

// incarnation is one process of a peer, from start to crash or stop.
type incarnation struct {
	peer   *Peer
	daemon *daemon.Daemon
	logs   *durableLogs
	raft   *raftLink
	cancel context.CancelFunc
	done   chan struct{}                        // closed when Run has returned
	err    error                                // of Run
	dead   <-chan struct{}                      // closed by a crash
	kill   func()                               // closes dead
	atKill func(do func()) (forget func() bool) // has something done when dead is closed
	asked  atomic.Bool                          // it was told to end
	writes atomic.Int64                         // left before the file system fails; negative: it does not
	reads  *faultfs.FS                          // goes wrong in reading when it is told to
}

func (i *incarnation) crashed() bool {
	select {
	case <-i.dead:
		return true
	default:
		return false
	}
}

func (i *incarnation) ready() bool {
	select {
	case <-i.done:
		return false
	default:
	}
	select {
	case <-i.daemon.Ready():
		return !i.crashed()
	default:
		return false
	}
}

// dir is where a peer keeps its things in its file system.
const dir = "peer"

// start begins a process on a peer's disks.
func (p *Peer) start() error {
	life, kill := context.WithCancel(context.Background())
	inc := &incarnation{peer: p, logs: &durableLogs{disk: p.logs, slow: p.disk()}, done: make(chan struct{}), dead: life.Done(), kill: kill,
		atKill: func(do func()) func() bool { return context.AfterFunc(life, do) }}
	inc.raft = newRaftLink(p.cluster.net, inc)
	inc.writes.Store(-1)
	inc.asked.Store(p.removed) // it ends by itself once it knows
	inc.reads = faultfs.New(p.fs)
	fs := inc.fallible(inc.reads)
	if err := fs.MkdirAll(fs.PathJoin(dir, "raft"), 0o700); err != nil {
		return err
	}
	for _, folder := range []string{"", dir} {
		if err := syncFolder(fs, folder); err != nil {
			return err
		}
	}
	if p.faulty != nil {
		inc.spoil(*p.faulty)
		p.faulty = nil
	}
	var err error
	inc.daemon, err = daemon.New(daemon.Options{Dir: dir, Config: p.config, Identity: p.Identity, Cluster: p.info,
		Version: api.Version{Version: "sim"}, Logger: p.cluster.logger.With("peer", p.Name), Seams: p.seams(inc, fs)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	inc.cancel = cancel
	p.now.Store(inc)
	p.cluster.net.enter(inc)
	go func() {
		defer close(inc.done)
		defer cancel()
		inc.err = inc.daemon.Run(ctx)
		if inc.crashed() {
			return // the next process may be there already
		}
		p.cluster.net.leave(inc)
		p.cluster.rpc.Remove(p.ID)
		if !inc.asked.Load() {
			p.cluster.fail("INV-ALIVE", "%s ended by itself: %v", p.Name, inc.err)
		}
	}()
	return nil
}

func (p *Peer) seams(inc *incarnation, fs vfs.FS) daemon.Seams {
	return daemon.Seams{
		FS:             fs,
		Pace:           p.cluster.options.Pace,
		TrackerPace:    p.cluster.options.TrackerPace,
		CommandVersion: p.knows,
		Agreement: func(allowed func(peer.ID) bool) (daemon.Agreement, error) {
			inc.raft.allowed.Store(&allowed)
			stable, err := consensus.NewStable(fs, fs.PathJoin(dir, "raft", "vote.json"))
			return daemon.Agreement{Transport: inc.raft, Logs: inc.logs, Stable: slowStable{stable, p.disk()}, Close: func() error { return nil }}, err
		},
		RPC: func(services rpc.Services, roleOf func(peer.ID) rpc.Role) (rpc.Transport, error) {
			if inc.crashed() {
				return nil, errPowerless
			}
			return rpcLink{p.cluster.rpc.Serve(p.ID, services, roleOf), p.cluster.net, inc}, nil
		},
		Node: func(wanted func(keep func(api.Pin) bool) error) (daemon.Node, error) {
			return fake.New(fake.Config{World: p.cluster.world, Disk: p.Disk, Wanted: wanted, Opening: p.cluster.options.Opening, Fault: func(op fake.Op) error {
				if inc.crashed() {
					return errPowerless
				}
				if fault := p.fault.Load(); fault != nil {
					return (*fault)(op)
				}
				return nil
			}})
		},
		Wall: func() time.Time { return time.Now().Add(time.Duration(p.skew.Load())) },
		Addresses: func() []multiaddr.Multiaddr {
			return []multiaddr.Multiaddr{multiaddr.StringCast(fmt.Sprintf("/memory/%d", p.number))}
		},
	}
}

// fallible is a file system that fails when the process is told to see that.
func (i *incarnation) fallible(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return nil
		}
		for {
			left := i.writes.Load()
			if left < 0 {
				return nil
			}
			if left == 0 {
				return syscall.EIO
			}
			if i.writes.CompareAndSwap(left, left-1) {
				return nil
			}
		}
	}))
}

func syncFolder(fs vfs.FS, path string) error {
	if path == "" {
		path = "/"
	}
	folder, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	if err := folder.Sync(); err != nil {
		return err
	}
	return folder.Close()
}

// spoil lets the disk go wrong in reading. The process may end by itself then, but
// must not go on with something else than what it had written.
func (i *incarnation) spoil(plan faultfs.Plan) {
	i.asked.Store(true)
	i.reads.Set(plan)
	i.logs.spoil(plan)
}

// disk returns what makes raft wait for this peer's disk.
func (p *Peer) disk() func() {
	dice := p.cluster.dice()
	var mu sync.Mutex
	return func() {
		longest := p.slow.Load()
		if longest == 0 {
			return
		}
		mu.Lock()
		d := time.Duration(dice.Int64N(longest))
		mu.Unlock()
		time.Sleep(d)
	}
}

// up says that the peer answers requests.
func (p *Peer) up() bool {
	inc := p.now.Load()
	return inc != nil && inc.ready()
}

// Stop ends the peer in an orderly way.
func (p *Peer) Stop() {
	inc := p.now.Swap(nil)
	if inc == nil {
		return
	}
	expected := inc.asked.Swap(true)
	applied := uint64(0)
	if inc.ready() {
		_, applied, _ = inc.daemon.StateHash() // an error leaves 0, which asks for nothing
	}
	inc.cancel()
	<-inc.done
	if inc.err != nil && !expected {
		p.cluster.fail("INV-ALIVE", "%s stopped with: %v", p.Name, inc.err)
	}
	p.floor = max(p.floor, applied)
}

// Crash ends the peer as a power failure does. What was synced is there at the
// next start; of the rest, so many percent.
func (p *Peer) Crash(unsynced int) {
	inc := p.now.Swap(nil)
	if inc == nil {
		return
	}
	inc.asked.Store(true)
	durable := uint64(0)
	if inc.ready() {
		durable = p.cluster.history.upTo(inc.daemon.Log().Stats().SnapshotIndex)
	}
	// The order is that of what is promised on what: an answer that got out
	// rests on all disks, the pinset on the log. So the network ends first.
	inc.kill()
	_ = inc.raft.Close() // never fails
	p.cluster.net.leave(inc)
	p.cluster.rpc.Remove(p.ID)
	p.Disk.Crash()
	var err error
	p.logs, err = inc.logs.freeze()
	p.cluster.must(err)
	p.fs = p.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: p.cluster.dice()})
	p.floor = durable
	inc.cancel()
	p.cluster.zombies = append(p.cluster.zombies, inc)
}
