package fake

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// World is the network between fake nodes. Two nodes can exchange blocks while
// both are running and no cut lies between them.
type World struct {
	mu      sync.Mutex
	latency time.Duration
	nodes   map[peer.ID]*Node // those that are running
	cuts    map[[2]peer.ID]bool
	changed chan struct{}
}

// NewWorld makes a network in which a block takes latency to come (0: none).
func NewWorld(latency time.Duration) *World {
	return &World{latency: latency, nodes: map[peer.ID]*Node{}, cuts: map[[2]peer.ID]bool{}, changed: make(chan struct{})}
}

// Cut severs two nodes, or with cut false joins them again.
func (w *World) Cut(a, b peer.ID, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cuts[pair(a, b)] = cut
	w.signal()
}

// Heal removes all cuts.
func (w *World) Heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.cuts)
	w.signal()
}

func pair(a, b peer.ID) [2]peer.ID {
	if a < b {
		return [2]peer.ID{a, b}
	}
	return [2]peer.ID{b, a}
}

// signal wakes fetches that wait for something to change.
func (w *World) signal() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *World) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signal()
}

func (w *World) change() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

func (w *World) enter(n *Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[n.ID()] = n
	w.signal()
}

func (w *World) leave(n *Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[n.ID()] == n {
		delete(w.nodes, n.ID())
	}
	w.signal()
}

func (w *World) reaches(from, to peer.ID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes[to] != nil && !w.cuts[pair(from, to)]
}

// find returns a block from one of the peers that from can reach, the first in
// the order given.
func (w *World) find(from peer.ID, peers []peer.ID, key string) ([]byte, bool) {
	w.mu.Lock()
	var asked []*Node
	for _, id := range peers {
		if n := w.nodes[id]; n != nil && id != from && !w.cuts[pair(from, id)] {
			asked = append(asked, n)
		}
	}
	w.mu.Unlock()
	for _, n := range asked {
		if data, ok := n.disk.block(key); ok {
			return data, true
		}
	}
	return nil, false
}
