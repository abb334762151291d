package daemon

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// knownMembers is where the members of the cluster are read from.
type knownMembers interface {
	Members() ([]api.Member, error)
	Member(peer.ID) (api.Member, bool, error)
}

// voucher asks a member whether another peer is one.
type voucher interface {
	IsMember(ctx context.Context, to, id peer.ID) (bool, error)
}

// trust says who may speak to this peer: the members of its pinset; those of
// the raft log, which is durable when the pinset is not yet, and which the
// pinset is made from again; those that admitted it, until its own admission
// has arrived in the pinset; and who a member vouches for, because a peer that
// was away does not know those that came meanwhile, and one of them may be the
// leader that would tell it.
type trust struct {
	self    peer.ID
	members knownMembers
	seeds   []api.Member
	agreed  atomic.Pointer[func() []peer.ID] // members by the raft log; nil: not open yet
	where   func(peer.ID) netip.Prefix       // a connected peer is
	ask     chan peer.ID

	mu      sync.Mutex
	vouched map[peer.ID]time.Time
	asking  map[peer.ID]netip.Prefix
	refused map[peer.ID]time.Time
	// met are the members that the pinset named since this process began. One that
	// it names no more was removed, and some may not have heard of that yet: most of
	// the others have to vouch for it, as they do when it was admitted again.
	met map[peer.ID]bool
}

const (
	// vouchTime is how long it counts that a member knows somebody, and refusedTime
	// that none does: not long, for those who were asked may have been behind.
	vouchTime   = time.Minute
	refusedTime = 5 * time.Second
	maxRefused  = 1024
	// Strangers can be many: so many are asked about at a time, and so many of one
	// address.
	asksAtOnce           = 32
	asksAtOncePerAddress = 2
)

func newTrust(self peer.ID, members knownMembers, seeds []api.Member, where func(peer.ID) netip.Prefix) *trust {
	return &trust{self: self, members: members, seeds: seeds, where: where, ask: make(chan peer.ID, asksAtOnce),
		vouched: map[peer.ID]time.Time{}, asking: map[peer.ID]netip.Prefix{}, refused: map[peer.ID]time.Time{}, met: map[peer.ID]bool{}}
}

// follow makes the members of the raft log trusted, too.
func (t *trust) follow(members func() []peer.ID) { t.agreed.Store(&members) }

// isMember says who may speak at all (INV-MEMBERS). It never blocks: about a stranger the members are asked in the
// background, and its next attempt finds the answer.
func (t *trust) isMember(id peer.ID) bool {
	return t.knows(id) || t.wonder(id, t.where(id))
}

// isMemberAt is isMember for one who is about to be connected.
func (t *trust) isMemberAt(id peer.ID, at netip.Prefix) bool {
	return t.knows(id) || t.wonder(id, at)
}

// knows is isMember without a question.
func (t *trust) knows(id peer.ID) bool {
	if t.listed(id) {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	until, ok := t.vouched[id]
	return ok && time.Now().Before(until)
}

// wonder has the members asked about a stranger, unless they just were or too
// many of its address are asked about. It returns what is known so far: nothing.
func (t *trust) wonder(id peer.ID, at netip.Prefix) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, asking := t.asking[id]; asking || time.Now().Before(t.refused[id]) || len(t.asking) >= asksAtOnce {
		return false
	}
	ofAddress := 0
	for _, other := range t.asking {
		if at.IsValid() && other == at {
			ofAddress++
		}
	}
	if ofAddress < asksAtOncePerAddress {
		t.asking[id] = at
		t.ask <- id // there is room for as many as may be asked about
	}
	return false
}

// listed says whether this peer itself knows another as a member.
func (t *trust) listed(id peer.ID) bool {
	if _, ok, err := t.members.Member(id); err == nil && ok {
		return true
	}
	if agreed := t.agreed.Load(); agreed != nil && slices.Contains((*agreed)(), id) {
		return true
	}
	if _, admitted, err := t.members.Member(t.self); err == nil && admitted {
		return false
	}
	return slices.ContainsFunc(t.seeds, func(m api.Member) bool { return m.ID == id })
}

// known lists whom this peer knows as members.
func (t *trust) known() ([]api.Member, error) {
	members, err := t.members.Members()
	if err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	t.meet(members)
	for _, seed := range t.seeds {
		if t.listed(seed.ID) && !slices.ContainsFunc(members, func(m api.Member) bool { return m.ID == seed.ID }) {
			members = append(members, seed)
		}
	}
	return members, nil
}

func (t *trust) meet(members []api.Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range members {
		t.met[m.ID] = true
		delete(t.vouched, m.ID)
	}
}

func (t *trust) hasMet(id peer.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.met[id]
}

// vouch asks members about strangers until ctx ends.
func (t *trust) vouch(ctx context.Context, members voucher) error {
	var questions sync.WaitGroup
	defer questions.Wait()
	for {
		select {
		case id := <-t.ask:
			questions.Go(func() { t.askAbout(ctx, members, id) })
		case <-ctx.Done():
			return nil
		}
	}
}

// askAbout asks all members about a stranger. The first that knows it is
// enough; that it is none is remembered when one has said so, for a moment.
func (t *trust) askAbout(ctx context.Context, members voucher, id peer.ID) {
	known, err := t.known()
	if err != nil {
		known = nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	type answer struct{ member, said bool }
	answers, asked := make(chan answer, len(known)), 0
	for _, m := range known {
		if m.ID == id || m.ID == t.self {
			continue
		}
		asked++
		go func() {
			yes, err := members.IsMember(ctx, m.ID, id)
			answers <- answer{yes && err == nil, err == nil}
		}()
	}
	needed := 1
	if t.hasMet(id) {
		needed = asked/2 + 1
	}
	found, denied := false, false
	for range asked {
		a := <-answers
		denied = denied || a.said && !a.member
		if a.member {
			needed--
		}
		if needed == 0 && !found {
			found = true
			t.settle(id, true, false)
			cancel()
		}
	}
	if !found {
		t.settle(id, false, denied)
	}
}

// settle ends a question.
func (t *trust) settle(id peer.ID, member, denied bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.asking, id)
	now := time.Now()
	past := func(_ peer.ID, until time.Time) bool { return !now.Before(until) }
	switch {
	case member:
		maps.DeleteFunc(t.vouched, past)
		t.vouched[id] = now.Add(vouchTime)
	case denied:
		maps.DeleteFunc(t.refused, past)
		if len(t.refused) < maxRefused {
			t.refused[id] = now.Add(refusedTime)
		}
	}
}
