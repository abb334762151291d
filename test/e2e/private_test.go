//go:build e2e

package e2e

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/node"
)

// TestPrivateClusterShutsOthersOut: a node outside a private cluster dials the
// IPFS swarm of each of its peers and asks for a block by its CID. It gets none,
// while the peers fetch from one another.
func TestPrivateClusterShutsOthersOut(t *testing.T) {
	c := newCluster(t, 2, nil)
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	one := api.NewAddParams()
	one.ReplicationFactorMin, one.ReplicationFactorMax = 1, 1
	root, err := c.peers[0].addBytes(ctx, []byte("for members only"), one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.peers[1].rest.Pin(ctx, root, api.PinOptions{ReplicationFactorMin: -1, ReplicationFactorMax: -1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.peers[0].rest.WaitFor(ctx, root, api.StatusPinned, 2, 100*time.Millisecond); err != nil {
		t.Fatalf("members do not fetch from one another: %v", err)
	}

	var ids []peer.ID
	var holders []peer.AddrInfo
	for _, p := range c.peers {
		id, err := p.rest.ID(ctx)
		if err != nil {
			t.Fatal(err)
		}
		infos, err := peer.AddrInfosFromP2pAddrs(id.IPFS.Addresses...)
		if err != nil || len(infos) != 1 {
			t.Fatalf("%s has its IPFS node at %v: %v", p.name, id.IPFS.Addresses, err)
		}
		ids, holders = append(ids, infos[0].ID), append(holders, infos[0])
	}
	foreign := openNode(t, node.Config{Dir: t.TempDir(), SwarmListen: []string{loopback(freePort(t))}, Admit: ids,
		StallTimeout: 500 * time.Millisecond, StallLimit: 3})
	foreign.Peer(holders) // it dials them
	if err := foreign.Fetch(ctx, api.Pin{Cid: root, PinOptions: api.PinOptions{Mode: api.ModeRecursive}}, holders, nil); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("a foreign node fetches what a private cluster holds: %v", err)
	}
}

// TestMembersWithoutLeader: a peer that restarts while there is no leader hears
// of nobody, and admits the members' nodes all the same.
func TestMembersWithoutLeader(t *testing.T) {
	c := newCluster(t, 2, nil)
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	one := api.NewAddParams()
	one.ReplicationFactorMin, one.ReplicationFactorMax = 1, 1
	root, err := c.peers[0].addBytes(ctx, []byte("for members only"), one)
	if err != nil {
		t.Fatal(err)
	}
	pin, err := c.peers[0].rest.Allocation(ctx, root)
	if err != nil || len(pin.Allocations) != 1 {
		t.Fatalf("the one copy is at %v: %v", pin.Allocations, err)
	}
	holder, other := c.peers[0], c.peers[1]
	if pin.Allocations[0] != holder.id {
		holder, other = other, holder
	}
	id, err := holder.rest.ID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	at, err := peer.AddrInfosFromP2pAddrs(id.IPFS.Addresses...)
	if err != nil || len(at) != 1 {
		t.Fatalf("its IPFS node is at %v: %v", id.IPFS.Addresses, err)
	}
	for _, p := range c.peers {
		p.kill()
	}
	holder.start()
	// The other peer's node alone: its peer would make a majority.
	n := openNode(t, node.Config{Dir: filepath.Join(other.dir, "ipfs"), SwarmListen: []string{loopback(freePort(t))}, StallTimeout: time.Second, StallLimit: 30})
	n.Peer(at)
	if err := n.Fetch(ctx, api.Pin{Cid: root, PinOptions: api.PinOptions{Mode: api.ModeRecursive}}, at, nil); err != nil {
		t.Errorf("the node of a member fetches: %v", err)
	}
}
