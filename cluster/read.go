package cluster

import (
	"context"
	"iter"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
)

// ID tells who this peer is.
func (c *Cluster) ID(ctx context.Context) (api.ID, error) { return c.LocalID(ctx) }

// Version is that of this peer's program.
func (c *Cluster) Version() api.Version { return c.cfg.Version }

// Peers tells who the members are, in the order of their IDs. One that cannot
// be asked has Error set.
func (c *Cluster) Peers(ctx context.Context) iter.Seq2[api.ID, error] {
	return func(yield func(api.ID, error) bool) {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.PeerTimeout)
		defer cancel()
		members, alerts := c.memberIDs(), c.Alerts()
		ids := make([]api.ID, len(members))
		var asked sync.WaitGroup
		for i, member := range members {
			asked.Go(func() { ids[i] = c.askID(ctx, member, alerts) })
		}
		asked.Wait()
		for _, id := range ids {
			if !yield(id, nil) {
				return
			}
		}
	}
}

func (c *Cluster) askID(ctx context.Context, member peer.ID, alerts []api.Alert) api.ID {
	ask := func() (api.ID, error) {
		if member == c.cfg.Self {
			return c.LocalID(ctx)
		}
		var id api.ID
		err := c.ask(ctx, member, func() (err error) {
			id, err = c.remote.ID(ctx, member)
			return err
		})
		return id, err
	}
	id, err := ask()
	if err != nil {
		id = api.ID{ID: member, Error: err.Error(), PeerName: c.nameOf(member),
			Addresses: []multiaddr.Multiaddr{}, ClusterPeers: []peer.ID{}, ClusterPeersAddresses: []multiaddr.Multiaddr{},
			IPFS: api.IPFSID{Addresses: []multiaddr.Multiaddr{}}}
	}
	c.judge(&id, alerts)
	return id
}

// Resolve turns a path (/ipfs, /ipns, /ipld) or a CID into a CID. Errors:
// invalid, not_found, unavailable.
func (c *Cluster) Resolve(ctx context.Context, path string) (api.Cid, error) {
	resolved, err := c.node.Resolve(ctx, path)
	return api.NewCid(resolved), err
}

// Allocation returns a pin; not_found if it is not in the pinset.
func (c *Cluster) Allocation(ctx context.Context, id api.Cid) (api.Pin, error) {
	c.catchUp(ctx)
	pin, exists, err := c.state.Get(id.Cid)
	if err != nil {
		return api.Pin{}, err
	}
	if !exists {
		return api.Pin{}, api.Errorf(api.CodeNotFound, "%s is not part of the pinset", id)
	}
	return pin, nil
}

// Allocations streams the pinset in the order of the CIDs' bytes.
func (c *Cluster) Allocations(ctx context.Context, filter api.PinFilter) iter.Seq2[api.Pin, error] {
	return func(yield func(api.Pin, error) bool) {
		c.catchUp(ctx)
		for pin, err := range c.state.Select(ctx, filter) {
			if err == nil {
				err = ctx.Err()
			}
			if !yield(pin, err) || err != nil {
				return
			}
		}
	}
}

// ReadIndex is the index that a read must reach to see everything that was
// acknowledged before it.
func (c *Cluster) ReadIndex(ctx context.Context) (uint64, error) {
	return onLeader(ctx, c, c.log.ReadIndex, c.remote.ReadIndex)
}

// Barrier returns once this peer's pinset contains everything that was
// acknowledged, by any peer, before the call. Errors: no_leader, unavailable.
func (c *Cluster) Barrier(ctx context.Context) error {
	index, err := c.ReadIndex(ctx)
	if err != nil {
		return err
	}
	return c.log.WaitApplied(ctx, index)
}

// RepoStat is the size of the members' IPFS repositories together; those that
// cannot be asked are left out.
func (c *Cluster) RepoStat(ctx context.Context) (api.RepoStat, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.PeerTimeout)
	defer cancel()
	var mu sync.Mutex
	var total api.RepoStat
	var asked sync.WaitGroup
	for _, member := range c.memberIDs() {
		asked.Go(func() {
			var stat api.RepoStat
			question := func() (err error) {
				stat, err = c.remote.RepoStat(ctx, member)
				return err
			}
			var err error
			if member == c.cfg.Self {
				stat, err = c.node.RepoStat(ctx)
			} else {
				err = c.ask(ctx, member, question)
			}
			if err != nil {
				c.logger.Warn("peer left out of repo stat", "peer", member, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			total.RepoSize += stat.RepoSize
			total.StorageMax += stat.StorageMax
			total.NumObjects += stat.NumObjects
		})
	}
	asked.Wait()
	return total, nil
}

// RepoGC collects garbage on every member, one after the other, or only here.
func (c *Cluster) RepoGC(ctx context.Context, local bool) (api.GlobalRepoGC, error) {
	global := api.GlobalRepoGC{PeerMap: map[string]api.RepoGC{}}
	members := []peer.ID{c.cfg.Self}
	if !local {
		members = c.memberIDs()
	}
	for _, member := range members {
		var result api.RepoGC
		err := c.reachable(member)
		switch {
		case member == c.cfg.Self:
			result, err = c.LocalRepoGC(ctx)
		case err == nil:
			result, err = c.remote.RepoGC(ctx, member)
			result.Peer, result.PeerName = member, c.nameOf(member)
		}
		if err != nil {
			result.Peer, result.PeerName = member, c.nameOf(member)
			result.Error = err.Error()
		}
		result.Keys = orEmpty(result.Keys)
		global.PeerMap[member.String()] = result
	}
	return global, ctx.Err()
}
