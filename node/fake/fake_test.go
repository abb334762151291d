package fake_test

import (
	"testing"
	"testing/synctest"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/node/conformance"
	"holdfast/node/fake"
)

// store is one disk in a world that all stores of a test share.
type store struct {
	world *fake.World
	disk  *fake.Disk
}

func (s store) New(t *testing.T, o conformance.Options) conformance.Node {
	s.disk.SetCapacity(o.StorageMax)
	n, err := fake.New(fake.Config{World: s.world, Disk: s.disk, StallTimeout: o.StallTimeout,
		StallLimit: o.StallLimit, LeaseLinger: o.LeaseLinger, Wanted: o.Wanted})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (s store) Info(n conformance.Node) peer.AddrInfo { return peer.AddrInfo{ID: n.ID()} }

func (s store) PinByUser(_ *testing.T, _ conformance.Node, c cid.Cid, mode api.PinMode) {
	s.disk.PinByUser(c, mode)
}

func (s store) PinnedByUser(_ *testing.T, _ conformance.Node, c cid.Cid) api.PinMode {
	return s.disk.PinnedByUser(c)
}

func (s store) Damage(_ *testing.T, _ conformance.Node, c cid.Cid) { s.disk.Damage(c) }

func (s store) Wipe(*testing.T) { s.disk.Wipe() }

func TestConformance(t *testing.T) {
	var world *fake.World
	var disks int
	conformance.Suite(t, func(*testing.T) conformance.Store {
		disks++
		return store{world, fake.NewDisk(peer.ID(rune('a' + disks%26)))}
	}, func(t *testing.T, test func(*testing.T)) {
		synctest.Test(t, func(t *testing.T) {
			world = fake.NewWorld(0)
			test(t)
		})
	})
}
