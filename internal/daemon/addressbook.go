package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"holdfast/api"
)

// addressBook keeps the host's address book equal to the members' records, so
// that raft and rpc can dial by peer ID, and keeps this peer connected to the
// members: one whose address changed while it was away is found by dialling the
// others, who may not be able to dial it. Of one that is not found, another
// member is asked in each round: the records are of no use when both have moved,
// and only a leader can store new ones.
type addressBook struct {
	self      peer.ID
	known     func() ([]api.Member, error)
	note      func(api.Member)
	forget    func(peer.ID)
	connected func(peer.ID) bool
	// find connects to a member; it may fail, and is called again in a later round.
	find func(ctx context.Context, missing api.Member, known []api.Member, round int)

	mu     sync.Mutex
	sought map[peer.ID]bool
}

func newAddressBook(t *trust, h host.Host, members locator) *addressBook {
	return &addressBook{self: h.ID(), known: t.known, sought: map[peer.ID]bool{},
		note: func(m api.Member) {
			// Connections of strangers are closed before those of members.
			h.ConnManager().Protect(m.ID, memberTag)
			h.Peerstore().AddAddrs(m.ID, withoutPeer(m), peerstore.PermanentAddrTTL)
		},
		forget:    func(id peer.ID) { h.ConnManager().Unprotect(id, memberTag) },
		connected: func(id peer.ID) bool { return h.Network().Connectedness(id) == network.Connected },
		find: func(ctx context.Context, missing api.Member, known []api.Member, round int) {
			dial, cancel := context.WithTimeout(ctx, dialTimeout)
			err := h.Connect(dial, peer.AddrInfo{ID: missing.ID})
			cancel()
			if err != nil { // down, or elsewhere
				findThrough(ctx, h, members, known, missing.ID, round)
			}
		}}
}

const (
	memberTag       = "member"
	addressInterval = 2 * time.Second
	dialTimeout     = 3 * time.Second
	dialsAtOnce     = 32
)

// Run keeps the book until ctx ends. Members are dialled side by side: those
// that are gone for good must not hold up the way to one that has just come back.
func (b *addressBook) Run(ctx context.Context) error {
	var dials sync.WaitGroup
	defer dials.Wait()
	turn := make(chan struct{}, dialsAtOnce)
	noted := map[peer.ID]bool{}
	for round := 0; ; round++ {
		known, err := b.known()
		if err != nil {
			return err
		}
		for id := range noted {
			if !slices.ContainsFunc(known, func(m api.Member) bool { return m.ID == id }) {
				b.forget(id)
				delete(noted, id)
			}
		}
		for _, m := range known {
			if m.ID == b.self {
				continue
			}
			b.note(m)
			noted[m.ID] = true
			if b.connected(m.ID) || !b.seek(m.ID) {
				continue
			}
			dials.Go(func() {
				defer b.done(m.ID)
				select {
				case turn <- struct{}{}:
					b.find(ctx, m, known, round)
					<-turn
				case <-ctx.Done():
				}
			})
		}
		if !sleep(ctx, addressInterval) {
			return nil
		}
	}
}

// seek says whether nobody looks for a member yet; the caller then does.
func (b *addressBook) seek(id peer.ID) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sought[id] {
		return false
	}
	b.sought[id] = true
	return true
}

func (b *addressBook) done(id peer.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sought, id)
}
