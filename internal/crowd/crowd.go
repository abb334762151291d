package crowd

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Crowd is a bounded set of what strangers hold: connections, questions. It
// never refuses who comes: somebody else goes, so that a few who hold fast to
// their places cannot lock out those that come later. Who goes is of the address
// that holds most, and there the one that has been idle longest.
type Crowd[T comparable] struct {
	all, perAddress int
	busy            func(T) bool

	mu   sync.Mutex
	here []holding[T] // the oldest first
}

type holding[T comparable] struct {
	what T
	at   netip.Prefix
}

// New bounds a crowd to so many in all and of each address. Who is busy goes
// only when no other of its address is idle; nil: nobody is.
func New[T comparable](all, perAddress int, busy func(T) bool) *Crowd[T] {
	if busy == nil {
		busy = func(T) bool { return false }
	}
	return &Crowd[T]{all: all, perAddress: perAddress, busy: busy}
}

// Add takes somebody in. When another had to leave for it, crowded is true and
// the caller is to end what the other one holds.
func (c *Crowd[T]) Add(what T, at netip.Prefix) (out T, crowded bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from, full := c.full(at); full {
		i := c.leaves(from)
		out, crowded = c.here[i].what, true
		c.here = slices.Delete(c.here, i, i+1)
	}
	c.here = append(c.here, holding[T]{what, at})
	return out, crowded
}

// full says whether one more is too many, and of which address somebody is to leave.
func (c *Crowd[T]) full(at netip.Prefix) (from netip.Prefix, full bool) {
	counts, most := map[netip.Prefix]int{}, 0
	for _, h := range c.here {
		counts[h.at]++
	}
	if counts[at] >= c.perAddress {
		return at, true
	}
	if len(c.here) < c.all {
		return from, false
	}
	for _, h := range c.here { // in order, so that of equals the first goes
		if counts[h.at] > most {
			from, most = h.at, counts[h.at]
		}
	}
	return from, true
}

// leaves is who of an address goes first.
func (c *Crowd[T]) leaves(from netip.Prefix) int {
	idle := slices.IndexFunc(c.here, func(h holding[T]) bool { return h.at == from && !c.busy(h.what) })
	if idle >= 0 {
		return idle
	}
	return slices.IndexFunc(c.here, func(h holding[T]) bool { return h.at == from })
}

// Remove forgets somebody who has left by itself.
func (c *Crowd[T]) Remove(what T) { c.RemoveFunc(func(t T) bool { return t == what }) }

// RemoveFunc forgets those who belong to the crowd no more.
func (c *Crowd[T]) RemoveFunc(gone func(T) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.here = slices.DeleteFunc(c.here, func(h holding[T]) bool { return gone(h.what) })
}

// AddressOf is what strangers are counted by: an IPv4 address, or the /64 of an
// IPv6 address, which is what one customer gets. What has none shares one place.
func AddressOf(addr multiaddr.Multiaddr) netip.Prefix {
	ip, err := manet.ToIP(addr)
	if err != nil {
		return netip.Prefix{}
	}
	from, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Prefix{}
	}
	from = from.Unmap()
	bits := 32
	if from.Is6() {
		bits = 64
	}
	prefix, err := from.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
