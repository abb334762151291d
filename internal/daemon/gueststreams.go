package daemon

import (
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// guestStreams is how many streams a guest may have open to us: it asks one
// question, and its host a few.
const guestStreams = 4

// frugal are resources of which guests get few streams. A stream counts against
// what all peers together may have from before it has said what it is for, so
// that one guest with many would keep those of members out.
type frugal struct {
	network.ResourceManager
	guests *guests

	mu   sync.Mutex
	open map[peer.ID]int // inbound, of guests
}

func (f *frugal) OpenStream(p peer.ID, dir network.Direction) (network.StreamManagementScope, error) {
	if dir == network.DirOutbound || !f.guests.has(p) {
		return f.ResourceManager.OpenStream(p, dir)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open[p] >= guestStreams {
		return nil, fmt.Errorf("%w: %s is no member and has %d streams", network.ErrResourceLimitExceeded, p, f.open[p])
	}
	scope, err := f.ResourceManager.OpenStream(p, dir)
	if err != nil {
		return nil, err
	}
	f.open[p]++
	return &guestStream{StreamManagementScope: scope, done: sync.OnceFunc(func() { f.closed(p) })}, nil
}

func (f *frugal) closed(p peer.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open[p]--; f.open[p] == 0 {
		delete(f.open, p)
	}
}

// guestStream gives its place back when it is done.
type guestStream struct {
	network.StreamManagementScope
	done func()
}

func (g *guestStream) Done() {
	g.StreamManagementScope.Done()
	g.done()
}
