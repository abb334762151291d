package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// record is what a peer knows of its cluster's members.
type record []api.Member

func (r record) Members() ([]api.Member, error) { return r, nil }

func (r record) Member(id peer.ID) (api.Member, bool, error) {
	for _, m := range r {
		if m.ID == id {
			return m, true, nil
		}
	}
	return api.Member{}, false, nil
}

// vouchers are members that are asked about others; one of them is dead.
type vouchers struct {
	mu    sync.Mutex
	known map[peer.ID]bool
	asked map[peer.ID]int
	now   int
	most  int
}

func (v *vouchers) IsMember(ctx context.Context, to, id peer.ID) (bool, error) {
	v.mu.Lock()
	v.asked[id]++
	v.now++
	v.most = max(v.most, v.now)
	known := v.known[id]
	v.mu.Unlock()
	defer func() { v.mu.Lock(); v.now--; v.mu.Unlock() }()
	if to == "dead" {
		<-ctx.Done()
		return false, errors.New("not reached")
	}
	return known, nil
}

func vouching(t *testing.T, v *vouchers, where func(peer.ID) netip.Prefix) *trust {
	t.Helper()
	trust := newTrust("self", record{{ID: "self"}, {ID: "dead"}, {ID: "alive"}}, nil, where)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- trust.vouch(ctx, v) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return trust
}

// Strangers that come without end do not keep this peer from asking about a
// member that it does not know yet, and the first yes is enough.
func TestVouchingIsNotStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vouchers{known: map[peer.ID]bool{"leader": true}, asked: map[peer.ID]int{}}
		theirs, its := netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.2/32")
		trust := vouching(t, v, func(id peer.ID) netip.Prefix {
			if id == "leader" {
				return its
			}
			return theirs
		})
		for i := range 1000 {
			if trust.isMember(peer.ID(fmt.Sprint("stranger", i))) {
				t.Error("a stranger is a member")
			}
			synctest.Wait()
		}
		if trust.isMember("leader") {
			t.Error("known before anybody was asked")
		}
		synctest.Wait()
		if !trust.isMember("leader") {
			t.Error("not known when a member has vouched for it")
		}
		if v.most > asksAtOncePerAddress*2+2 {
			t.Errorf("%d questions at a time", v.most)
		}
		time.Sleep(vouchTime)
		synctest.Wait()
		if trust.isMember("leader") {
			t.Error("the word of a member counts for ever")
		}
	})
}

// Who is refused is not asked about again at once; who is admitted then is
// found a moment later; and an unanswered question says nothing.
func TestRefusedIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vouchers{known: map[peer.ID]bool{}, asked: map[peer.ID]int{}}
		trust := vouching(t, v, func(peer.ID) netip.Prefix { return netip.Prefix{} })
		for range 10 {
			trust.isMember("late")
			synctest.Wait()
		}
		time.Sleep(dialTimeout)
		synctest.Wait()
		for range 10 {
			trust.isMember("late")
			synctest.Wait()
		}
		if v.asked["late"] != 2 { // both others, once
			t.Errorf("asked %d times", v.asked["late"])
		}
		v.mu.Lock()
		v.known["late"] = true
		v.mu.Unlock()
		time.Sleep(refusedTime)
		trust.isMember("late")
		synctest.Wait()
		if !trust.isMember("late") {
			t.Error("not known when it was admitted")
		}
		trust.members = record{{ID: "self"}, {ID: "dead"}}
		trust.isMember("unheard")
		time.Sleep(dialTimeout)
		synctest.Wait()
		trust.isMember("unheard")
		synctest.Wait()
		if v.asked["unheard"] != 2 {
			t.Errorf("asked %d times where nobody answers", v.asked["unheard"])
		}
	})
}

// A flood of names does not take memory without end.
func TestRefusedIsBounded(t *testing.T) {
	trust := newTrust("self", record{}, nil, func(peer.ID) netip.Prefix { return netip.Prefix{} })
	for i := range 3 * maxRefused {
		trust.settle(peer.ID(fmt.Sprint(i)), false, true)
	}
	if len(trust.refused) != maxRefused {
		t.Errorf("%d are remembered", len(trust.refused))
	}
}

// Who was a member and was removed is not let in on the word of a member that
// has not heard of it yet (INV-MEMBERS).
func TestRemovedIsNotVouchedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vouchers{known: map[peer.ID]bool{"removed": true}, asked: map[peer.ID]int{}}
		trust := vouching(t, v, func(peer.ID) netip.Prefix { return netip.Prefix{} })
		trust.isMember("removed") // before this peer has heard of its admission
		synctest.Wait()
		if !trust.isMember("removed") {
			t.Error("not known when a member has vouched for it")
		}
		before := trust.members
		trust.members = append(record{{ID: "removed"}}, before.(record)...)
		if _, err := trust.known(); err != nil {
			t.Fatal(err)
		}
		trust.members = before
		for range 3 {
			if trust.isMember("removed") {
				t.Error("a removed peer is a member")
			}
			time.Sleep(vouchTime)
			synctest.Wait()
		}
		trust.members = record{{ID: "self"}, {ID: "alive"}}
		trust.isMember("removed")
		synctest.Wait()
		if !trust.isMember("removed") {
			t.Error("it was admitted again, most of the others say so, and it is no member")
		}
	})
}
