package sim

import (
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// link is a direction between two peers.
type link struct{ from, to peer.ID }

// network decides what becomes of every message between peers, raft's and rpc's
// alike. Each direction rolls dice of its own, so that traffic of one does not
// change the luck of the others.
type network struct {
	seed      uint64
	snapshots atomic.Uint64 // that were sent

	mu      sync.Mutex
	blocked map[link]bool
	loss    map[link]float64       // share of messages that vanish
	slow    map[link]time.Duration // longest delay; 0: baseDelay
	dice    map[link]*rand.Rand
	running map[peer.ID]*incarnation // reachable processes
	leaders map[uint64]peer.ID       // who sent entries in a term
	rivals  []rivalry                // violations of INV-TERM
}

// rivalry is two peers that led in one term.
type rivalry struct {
	term          uint64
	first, second peer.ID
}

// baseDelay is the longest way of a message on a healthy link.
const baseDelay = 2 * time.Millisecond

func newNetwork(seed uint64) *network {
	return &network{seed: seed, blocked: map[link]bool{}, loss: map[link]float64{}, slow: map[link]time.Duration{},
		dice: map[link]*rand.Rand{}, running: map[peer.ID]*incarnation{}, leaders: map[uint64]peer.ID{}}
}

// fate says how long a message takes, and whether it arrives at all.
func (n *network) fate(from, to peer.ID) (delay time.Duration, lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := link{from, to}
	dice := n.dice[l]
	if dice == nil {
		h := fnv.New64a()
		_, _ = h.Write([]byte(from + to)) // never fails (hash.Hash)
		dice = rand.New(rand.NewPCG(n.seed, h.Sum64()))
		n.dice[l] = dice
	}
	longest := n.slow[l]
	if longest == 0 {
		longest = baseDelay
	}
	delay = time.Duration(dice.Int64N(int64(longest)))
	vanishes := dice.Float64() < n.loss[l]
	return delay, vanishes || n.blocked[l]
}

// block closes or opens one direction.
func (n *network) block(from, to peer.ID, closed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.blocked[link{from, to}] = closed
}

// degrade makes one direction slow or lossy; zero values make it healthy.
func (n *network) degrade(from, to peer.ID, loss float64, longest time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss[link{from, to}], n.slow[link{from, to}] = loss, longest
}

// heal makes all links healthy.
func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.blocked)
	clear(n.loss)
	clear(n.slow)
}

// enter makes a process reachable, in place of an earlier one of the same peer.
func (n *network) enter(inc *incarnation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running[inc.peer.ID] = inc
}

// leave makes a process unreachable.
func (n *network) leave(inc *incarnation) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running[inc.peer.ID] == inc {
		delete(n.running, inc.peer.ID)
	}
}

// find returns the process of a peer, or nil.
func (n *network) find(id peer.ID) *incarnation {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.running[id]
}

// led notes that a peer acts as leader of a term.
func (n *network) led(term uint64, id peer.ID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	first, known := n.leaders[term]
	if !known {
		n.leaders[term] = id
	} else if first != id {
		n.rivals = append(n.rivals, rivalry{term, first, id})
	}
}
