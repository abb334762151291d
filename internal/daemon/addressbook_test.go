package daemon

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Ten members that are gone do not hold up the way to one that lives, whether
// it is there from the start or comes back, and no member is dialled twice at a time.
func TestDeadMembersHoldNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known := []api.Member{{ID: "self"}}
		for i := range 10 {
			known = append(known, api.Member{ID: peer.ID(fmt.Sprint("dead", i))})
		}
		known = append(known, api.Member{ID: "alive"})
		var mu sync.Mutex
		up, connected, dialled := true, map[peer.ID]bool{}, map[peer.ID]int{}
		b := &addressBook{self: "self", sought: map[peer.ID]bool{}, note: func(api.Member) {}, forget: func(peer.ID) {},
			known: func() ([]api.Member, error) { return known, nil },
			connected: func(id peer.ID) bool {
				mu.Lock()
				defer mu.Unlock()
				return connected[id]
			},
			find: func(ctx context.Context, m api.Member, _ []api.Member, _ int) {
				mu.Lock()
				if dialled[m.ID]++; dialled[m.ID] > 1 || m.ID == "self" {
					t.Errorf("%s is dialled %d times at once", m.ID, dialled[m.ID])
				}
				alive := m.ID == "alive" && up
				connected[m.ID] = alive
				mu.Unlock()
				if !alive {
					sleep(ctx, 2*dialTimeout)
				}
				mu.Lock()
				defer mu.Unlock()
				dialled[m.ID]--
			}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- b.Run(ctx) }()
		synctest.Wait()
		if !b.connected("alive") {
			t.Error("not connected at once")
		}
		mu.Lock()
		up, connected["alive"] = false, false
		mu.Unlock()
		time.Sleep(time.Minute)
		mu.Lock()
		up = true
		mu.Unlock()
		time.Sleep(2*dialTimeout + addressInterval)
		synctest.Wait()
		if !b.connected("alive") {
			t.Error("not connected again")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
