package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/node"
	"holdfast/node/internal/gate"
)

// Op is one operation of a node, as a fault hook sees it.
type Op struct {
	Name string  // fetch, write, pin, unpin, pinned, complete, put, sync, lease, resolve, stat, free, gc, repoid
	N    int     // the how-manieth operation of this node, from 1
	Cid  cid.Cid // undefined where there is none, or many
}

// Config of a fake node.
type Config struct {
	World *World
	Disk  *Disk
	// StallTimeout, StallLimit and LeaseLinger are as those of the embedded
	// node: 20 s, 3 and 10 s when 0.
	StallTimeout time.Duration
	StallLimit   int
	LeaseLinger  time.Duration
	// Wanted is as that of the embedded node.
	Wanted func(keep func(api.Pin) bool) error
	// Opening is how long the node takes to open.
	Opening time.Duration
	// Fault, when set, is asked before every operation (and before every write
	// within a fetch); its error fails it.
	Fault func(Op) error
}

// Node is a fake node.
type Node struct {
	config Config
	disk   *Disk
	gate   *gate.Gate
	ready  chan struct{}
	damage chan struct{} // has room for one

	mu       sync.Mutex
	open     bool
	ops      int                             // operations so far
	working  map[int]context.CancelCauseFunc // those at work
	running  sync.WaitGroup                  // likewise
	peers    []peer.ID
	fetching map[cid.Cid]int
	fetched  map[cid.Cid]bool
}

// New makes a node; Run brings it to life.
func New(c Config) (*Node, error) {
	if c.World == nil || c.Disk == nil {
		return nil, api.Errorf(api.CodeInvalid, "a fake node needs a World and a Disk")
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = 20 * time.Second
	}
	if c.StallLimit == 0 {
		c.StallLimit = 3
	}
	if c.LeaseLinger == 0 {
		c.LeaseLinger = 10 * time.Second
	}
	return &Node{config: c, disk: c.Disk, gate: gate.New(), ready: make(chan struct{}), damage: make(chan struct{}, 1),
		working: map[int]context.CancelCauseFunc{}, fetching: map[cid.Cid]int{}, fetched: map[cid.Cid]bool{}}, nil
}

// Run keeps the node at work until ctx ends. It runs once.
func (n *Node) Run(ctx context.Context) error {
	if !n.disk.acquire(n) {
		return api.Errorf(api.CodeConflict, "another node runs on this disk")
	}
	defer n.disk.release(n)
	select {
	case <-time.After(n.config.Opening):
	case <-ctx.Done():
		return nil
	}
	n.mu.Lock()
	n.open = true
	n.mu.Unlock()
	if len(n.Damaged()) > 0 {
		n.signalDamage()
	}
	n.config.World.enter(n)
	close(n.ready)
	<-ctx.Done()
	n.config.World.leave(n)
	n.mu.Lock()
	n.open = false
	for _, end := range n.working {
		end(errClosing)
	}
	n.mu.Unlock()
	n.running.Wait()
	return nil
}

var errClosing = api.Errorf(api.CodeUnavailable, "the IPFS node is closing")

// begin admits an operation, unless a fault says otherwise. Its context also
// ends when the node closes.
func (n *Node) begin(parent context.Context, name string, c cid.Cid) (context.Context, func(), error) {
	n.mu.Lock()
	if !n.open {
		n.mu.Unlock()
		return nil, nil, api.Errorf(api.CodeUnavailable, "%s: the IPFS node is not open", name)
	}
	n.ops++
	op := Op{Name: name, N: n.ops, Cid: c}
	ctx, cancel := context.WithCancelCause(parent)
	n.working[op.N] = cancel
	n.running.Add(1)
	n.mu.Unlock()
	done := sync.OnceFunc(func() {
		cancel(nil)
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.working, op.N)
		n.running.Done()
	})
	if err := n.ask(op); err != nil {
		done()
		return nil, nil, err
	}
	return ctx, done, nil
}

// fault asks the hook about a step within an operation.
func (n *Node) fault(name string, c cid.Cid) error {
	n.mu.Lock()
	n.ops++
	op := Op{Name: name, N: n.ops, Cid: c}
	n.mu.Unlock()
	return n.ask(op)
}

func (n *Node) ask(op Op) error {
	if n.config.Fault == nil {
		return nil
	}
	if err := n.config.Fault(op); err != nil {
		return fmt.Errorf("%s: %w", op.Name, err)
	}
	return nil
}

// ended makes an error of an ended context say why it ended.
func ended(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); ctx.Err() != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w (%w)", cause, err)
	}
	return err
}

// Ready is closed when the node can be used.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// ID is the node's identity.
func (n *Node) ID() peer.ID { return n.disk.id }

// RepoID names what is on the disk: a wiped one has another.
func (n *Node) RepoID(ctx context.Context) (string, error) {
	_, done, err := n.begin(ctx, "repoid", cid.Undef)
	if err != nil {
		return "", err
	}
	defer done()
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	return fmt.Sprintf("%s-%d", n.disk.id, n.disk.wipes), nil
}

// Damaged lists the blocks that were found damaged and not replaced or
// collected since.
func (n *Node) Damaged() []cid.Cid {
	n.mu.Lock()
	open := n.open
	n.mu.Unlock()
	if !open {
		return nil
	}
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	var out []cid.Cid
	for _, key := range slices.Sorted(maps.Keys(n.disk.damaged)) {
		out = append(out, cid.NewCidV1(cid.Raw, []byte(key)))
	}
	return out
}

// DamageFound receives after Damaged has grown, and once when the node opened
// on a disk with damaged blocks.
func (n *Node) DamageFound() <-chan struct{} { return n.damage }

// Stats counts only what is damaged.
func (n *Node) Stats() node.Stats { return node.Stats{Damaged: len(n.Damaged())} }

// Conditions tells of each damaged block.
func (n *Node) Conditions() []api.Condition {
	var out []api.Condition
	for _, c := range n.Damaged() {
		out = append(out, api.Condition{Name: api.AlertDamage, Subject: c.String(), Message: "block " + c.String() + " is damaged"})
	}
	return out
}

func (n *Node) signalDamage() {
	select {
	case n.damage <- struct{}{}:
	default:
	}
}

// Addresses is one made-up address while the node is open.
func (n *Node) Addresses() []multiaddr.Multiaddr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.open {
		return nil
	}
	return []multiaddr.Multiaddr{multiaddr.StringCast("/memory/1/p2p/" + n.ID().String())}
}

// Peer replaces the set of connected nodes.
func (n *Node) Peer(infos []peer.AddrInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.peers = nil
	for _, info := range infos {
		n.peers = append(n.peers, info.ID)
	}
	slices.Sort(n.peers)
}

// Reaches says whether another node runs and no cut lies between.
func (n *Node) Reaches(id peer.ID) bool { return n.config.World.reaches(n.ID(), id) }

// RPC answers every request with 501.
func (n *Node) RPC() http.Handler { return http.HandlerFunc(notImplemented) }

// Gateway answers every request with 501.
func (n *Node) Gateway() http.Handler { return http.HandlerFunc(notImplemented) }

func notImplemented(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "a fake IPFS node serves no HTTP", http.StatusNotImplemented)
}
