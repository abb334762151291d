package cluster

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
)

// LocalReport is what this peer tells the leader about itself.
func (c *Cluster) LocalReport(ctx context.Context) api.PeerReport {
	report := api.PeerReport{Peer: c.cfg.Self, Name: c.cfg.Name, Addresses: c.fullAddresses(),
		Version: c.cfg.Version.Version, Commit: c.cfg.Version.Commit, IPFS: c.node.ID(), IPFSAddresses: c.node.Addresses(),
		PinQueue: c.tracker.Queued(), Tags: c.cfg.Tags, Applied: c.state.Applied(), Wall: c.wall().Round(0).UTC(), Backup: c.localBackup(), Conditions: c.conditions.now(c.wall())}
	free, err := c.node.Free(ctx)
	if err != nil {
		report.NodeError = err.Error()
		return report
	}
	report.FreeBytes = free
	report.RepoBytes, err = c.node.RepoSize(ctx)
	if err != nil {
		report.NodeError = err.Error()
	}
	return report
}

// LocalID tells who this peer is.
func (c *Cluster) LocalID(ctx context.Context) (api.ID, error) {
	members, err := c.state.Members()
	if err != nil {
		return api.ID{}, err
	}
	id := api.ID{ID: c.cfg.Self, PeerName: c.cfg.Name, Addresses: c.fullAddresses(), ClusterPeers: []peer.ID{},
		ClusterPeersAddresses: []multiaddr.Multiaddr{}, Reachable: []peer.ID{}, Version: c.cfg.Version.Version, Commit: c.cfg.Version.Commit,
		RPCProtocolVersion: api.RPCProtocol, IPFS: api.IPFSID{ID: c.node.ID(), Addresses: orEmpty(c.node.Addresses())}}
	for _, m := range members {
		id.ClusterPeers = append(id.ClusterPeers, m.ID)
		if m.ID != c.cfg.Self {
			id.ClusterPeersAddresses = append(id.ClusterPeersAddresses, m.Addresses...)
			if c.sees(m.ID) {
				id.Reachable = append(id.Reachable, m.ID)
			}
		}
	}
	if c.term != nil {
		id.Term, id.LeaderChanges = c.term()
	}
	if id.IPFS.Error = c.nodeError(ctx); id.IPFS.Error == "" {
		if free, err := c.node.Free(ctx); err == nil {
			id.FreeBytes = &free
		}
	}
	c.judge(&id, c.Alerts())
	return id, nil
}

// fullAddresses are this peer's addresses with its ID at their end.
func (c *Cluster) fullAddresses() []multiaddr.Multiaddr {
	info := peer.AddrInfo{ID: c.cfg.Self, Addrs: c.addresses()}
	full, err := peer.AddrInfoToP2pAddrs(&info)
	if err != nil {
		return []multiaddr.Multiaddr{} // cannot happen: our own ID is valid
	}
	return full
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// judge writes into an ID what the leader thinks of the peer, and what is wrong
// with it as far as this peer knows.
func (c *Cluster) judge(id *api.ID, alerts []api.Alert) {
	for _, alert := range alerts {
		if alert.Peer == id.ID {
			id.Alerts = append(id.Alerts, alert.Name)
		}
	}
	slices.Sort(id.Alerts)
	id.Alerts = slices.Compact(id.Alerts)
	id.Role = c.role(id.ID)
	if member, known, err := c.state.Member(id.ID); err == nil && known {
		id.Wish = member.Role
	}
	view, ok := c.view(id.ID)
	if !ok {
		return
	}
	id.State, id.HeardSeconds = view.State, nil
	if id.FreeBytes == nil && view.State != api.PeerUnknown && view.Report.NodeError == "" && view.Report.Version != "" {
		id.FreeBytes = &view.Report.FreeBytes
	}
	if view.State == api.PeerUnknown {
		id.Lag = nil
		if id.ID != c.cfg.Self {
			heard := view.Silent.Round(time.Millisecond).Seconds()
			id.HeardSeconds = &heard
		}
		return
	}
	leader, _ := c.log.Leader()
	if first, ok := c.view(leader); ok && view.Report.Applied > 0 {
		id.Lag = &api.Lag{Entries: first.Report.Applied - min(first.Report.Applied, view.Report.Applied),
			SilentSeconds: view.Silent.Round(time.Millisecond).Seconds()}
	}
}

// role says what part a peer has in the agreement.
func (c *Cluster) role(id peer.ID) string {
	if leader, ok := c.log.Leader(); ok && leader == id {
		return "leader"
	}
	members := c.membership.Members()
	i := slices.IndexFunc(members, func(m api.RaftMember) bool { return m.ID == id })
	switch {
	case i < 0:
		return ""
	case members[i].Voter:
		return "voter"
	}
	return "learner"
}

// LocalStatus is this peer's own status of a pin.
func (c *Cluster) LocalStatus(_ context.Context, id api.Cid) (api.PinInfo, error) {
	pin, exists, err := c.state.Get(id.Cid)
	if err != nil {
		return api.PinInfo{}, err
	}
	return c.localStatus(id, pin, exists)
}

func (c *Cluster) localStatus(id api.Cid, pin api.Pin, exists bool) (api.PinInfo, error) {
	info := api.PinInfo{Cid: id, Name: pin.Name, Peer: c.cfg.Self}
	status, known, err := c.tracker.Status(id.Cid)
	switch {
	case err != nil:
		return info, err
	case known:
		info.PinInfoShort = status
	case !exists:
		info.Status, info.Timestamp = api.StatusUnpinned, time.Now()
	case pin.AllocatedTo(c.cfg.Self):
		info.Status, info.Timestamp = api.StatusPinQueued, pin.Timestamp // committed, and not seen by the tracker yet
	default:
		info.Status, info.Timestamp = api.StatusRemote, pin.Timestamp
	}
	c.sign(&info.PinInfoShort)
	return info, nil
}

// sign writes this peer's names into a status.
func (c *Cluster) sign(short *api.PinInfoShort) {
	short.PeerName, short.IPFS, short.IPFSAddresses = c.cfg.Name, c.node.ID(), c.node.Addresses()
}

// LocalStatusAll streams what this peer's tracker works on or has done, in the
// order of the CIDs' bytes.
func (c *Cluster) LocalStatusAll(ctx context.Context, q api.StatusQuery) iter.Seq2[api.PinInfo, error] {
	return c.signed(ctx, c.tracker.StatusAll(q))
}

// LocalRecover makes this peer try a failed pin again now.
func (c *Cluster) LocalRecover(ctx context.Context, id api.Cid) (api.PinInfo, error) {
	if _, err := c.tracker.Recover(id.Cid); err != nil {
		return api.PinInfo{}, err
	}
	return c.LocalStatus(ctx, id)
}

// LocalRecoverAll makes this peer try all failed pins again now, and streams
// those that it queued.
func (c *Cluster) LocalRecoverAll(ctx context.Context) iter.Seq2[api.PinInfo, error] {
	return c.signed(ctx, c.tracker.RecoverAll())
}

func (c *Cluster) signed(ctx context.Context, items iter.Seq2[api.PinInfo, error]) iter.Seq2[api.PinInfo, error] {
	return func(yield func(api.PinInfo, error) bool) {
		for info, err := range items {
			if err == nil {
				err = ctx.Err()
			}
			info.Peer = c.cfg.Self
			c.sign(&info.PinInfoShort)
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// LocalRepoStat is the size of this peer's IPFS repository.
func (c *Cluster) LocalRepoStat(ctx context.Context) (api.RepoStat, error) {
	return c.node.RepoStat(ctx)
}

// LocalRepoGC collects garbage on this peer.
func (c *Cluster) LocalRepoGC(ctx context.Context) (api.RepoGC, error) {
	result := api.RepoGC{Peer: c.cfg.Self, PeerName: c.cfg.Name, Keys: []api.RepoGCKey{}}
	err := c.CollectGarbage(ctx, func(key api.RepoGCKey) { result.Keys = append(result.Keys, key) })
	return result, err
}

// CollectGarbage is LocalRepoGC that tells each key as it goes.
func (c *Cluster) CollectGarbage(ctx context.Context, emit func(api.RepoGCKey)) error {
	err := c.node.GC(ctx, emit)
	// An add that comes right after shall not be refused for want of the space
	// that has just become free.
	if unheard := c.peers.Report(ctx); unheard != nil {
		c.logger.Debug("the leader does not know of the free space yet", "err", unheard)
	}
	return err
}
