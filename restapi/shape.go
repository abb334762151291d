package restapi

import (
	"maps"

	"holdfast/api"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"
)

// Clients of the incumbent read lists without looking for null, so that lists
// which it always writes are never null here either.

func pinJSON(p api.Pin) api.Pin {
	p.Allocations = list(p.Allocations)
	p.MaxDepth = p.Mode.MaxDepth()
	return p
}

func statusJSON(g api.GlobalPinInfo) api.GlobalPinInfo {
	g.Allocations = list(g.Allocations)
	g.Origins = list(g.Origins)
	if g.PeerMap == nil {
		g.PeerMap = map[string]api.PinInfoShort{}
	}
	return g
}

func idJSON(id api.ID) api.ID {
	id.Addresses = list(id.Addresses)
	id.ClusterPeers = list(id.ClusterPeers)
	id.ClusterPeersAddresses = list(id.ClusterPeersAddresses)
	id.IPFS.Addresses = list(id.IPFS.Addresses)
	return id
}

func gcJSON(g api.GlobalRepoGC) api.GlobalRepoGC {
	g.PeerMap = maps.Clone(g.PeerMap)
	if g.PeerMap == nil {
		g.PeerMap = map[string]api.RepoGC{}
	}
	for id, one := range g.PeerMap {
		one.Keys = list(one.Keys)
		g.PeerMap[id] = one
	}
	return g
}

func list[T peer.ID | multiaddr.Multiaddr | api.RepoGCKey](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}
