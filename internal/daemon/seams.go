package daemon

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/consensus"
	"holdfast/consensus/libp2ptransport"
	"holdfast/node"
	"holdfast/pintracker"
	"holdfast/rpc"
	"holdfast/state"
)

// Node is the IPFS node of a peer: the embedded one, or a fake.
type Node interface {
	Run(ctx context.Context) error
	Ready() <-chan struct{}
	ID() peer.ID
	Addresses() []multiaddr.Multiaddr
	Fetch(ctx context.Context, pin api.Pin, holders []peer.AddrInfo, progress func(blocks, bytes uint64)) error
	Pin(ctx context.Context, pins []api.Pin) error
	Unpin(ctx context.Context, cids []cid.Cid) error
	PutBlocks(ctx context.Context, batch []blocks.Block) error
	Sync(ctx context.Context) error
	Lease(ctx context.Context) (release func(), err error)
	Resolve(ctx context.Context, path string) (cid.Cid, error)
	Peer(infos []peer.AddrInfo)
	Reaches(id peer.ID) bool
	RepoStat(ctx context.Context) (api.RepoStat, error)
	RepoSize(ctx context.Context) (uint64, error)
	Free(ctx context.Context) (uint64, error)
	GC(ctx context.Context, emit func(api.RepoGCKey)) error
	RPC() http.Handler
	Gateway() http.Handler
	// RepoID, Kept, Check, Damaged and DamageFound tell what the repository has lost.
	RepoID(ctx context.Context) (string, error)
	Kept(ctx context.Context, cids []cid.Cid) ([]bool, error)
	Check(ctx context.Context, pin api.Pin, pace func(ctx context.Context, blocks int, bytes uint64) error) (missing cid.Cid, err error)
	Damaged() []cid.Cid
	DamageFound() <-chan struct{}
	Conditions() []api.Condition
	Stats() node.Stats
}

// Agreement is what raft stands on.
type Agreement struct {
	Transport raft.Transport
	Logs      raft.LogStore
	Stable    raft.StableStore
	Close     func() error // of the stores
}

// Seams are the edges of a peer that tests and simulation replace. A nil field
// is the real thing.
type Seams struct {
	FS vfs.FS // for the pinset, the tracker and raft's snapshots
	// Agreement gives raft its stores and its way to the others; it is to
	// accept nobody who is not allowed.
	Agreement func(allowed func(peer.ID) bool) (Agreement, error)
	// Pace changes how often the log is compacted and the like; nil: the
	// defaults. Simulation makes snapshots frequent.
	Pace func(*consensus.Config)
	// TrackerPace changes how fast the tracker looks at what is pinned; nil: the
	// defaults.
	TrackerPace func(*pintracker.Config)
	// RPC serves this peer's services to the others and returns the way to them.
	RPC  func(services rpc.Services, roleOf func(peer.ID) rpc.Role) (rpc.Transport, error)
	Node func(wanted func(keep func(api.Pin) bool) error) (Node, error)
	// Wall is the machine's clock, which may be wrong and may jump. What only
	// measures how much time has passed does not ask it.
	Wall func() time.Time
	// CommandVersion is the highest version of commands that this program knows,
	// so that simulation can mix versions; 0: the real one.
	CommandVersion uint32
	// Addresses are those of the cluster host, without /p2p.
	Addresses func() []multiaddr.Multiaddr
}

// simulated says that no socket and no file outside FS is to be touched.
func (s Seams) simulated() bool { return s.FS != nil }

// realSeams fills in what is not replaced.
func (o Options) realSeams(h host.Host, connections int) Seams {
	s := o.Seams
	if s.FS == nil {
		s.FS = vfs.Default
	}
	if s.Agreement == nil {
		s.Agreement = func(allowed func(peer.ID) bool) (Agreement, error) { return openAgreement(o, h, allowed) }
	}
	if s.RPC == nil {
		s.RPC = func(services rpc.Services, roleOf func(peer.ID) rpc.Role) (rpc.Transport, error) {
			return rpc.Serve(h, services, roleOf)
		}
	}
	if s.Node == nil {
		s.Node = func(wanted func(keep func(api.Pin) bool) error) (Node, error) {
			return openNode(o, connections, wanted)
		}
	}
	if s.CommandVersion == 0 {
		s.CommandVersion = state.CommandVersion
	}
	if s.Wall == nil {
		s.Wall = time.Now
	}
	if s.Addresses == nil {
		s.Addresses = h.Addrs
	}
	return s
}

func openAgreement(o Options, h host.Host, allowed func(peer.ID) bool) (Agreement, error) {
	logs, stable, closeStores, err := consensus.OpenStores(filepath.Join(o.Dir, "raft"))
	if err != nil {
		return Agreement{}, fmt.Errorf("open the raft log: %w", err)
	}
	layer, err := libp2ptransport.Listen(h, allowed)
	if err != nil {
		return Agreement{}, fmt.Errorf("raft transport: %w", err)
	}
	transport := consensus.NewTransport(consensus.TransportConfig{Layer: layer, Logger: raftLogger(o.Logger)})
	return Agreement{Transport: transport, Logs: logs, Stable: stable, Close: closeStores}, nil
}

func openNode(o Options, connections int, wanted func(keep func(api.Pin) bool) error) (Node, error) {
	c := o.Config
	admit := make([]peer.ID, 0, len(c.IPFSAdmit))
	for _, text := range c.IPFSAdmit {
		id, err := peer.Decode(text)
		if err != nil {
			return nil, api.Errorf(api.CodeInvalid, "ipfs.admit: %q: %w", text, err)
		}
		admit = append(admit, id)
	}
	return node.New(node.Config{
		Dir:         filepath.Join(o.Dir, "ipfs"),
		SwarmListen: c.IPFSSwarm,
		Announce:    c.IPFSAnnounce,
		Public:      c.IPFSPublic,
		Admit:       admit,
		StorageMax:  uint64(c.IPFSStorageMax),
		Wanted:      wanted,

		MaxConnections: connections,
	}, o.Logger.With("part", "node"))
}
