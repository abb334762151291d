package cluster

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Status asks the peers that hold a pin how far they are, in parallel and with
// one deadline; who does not answer is shown as cluster_error. A CID that is
// not in the pinset is unpinned everywhere. Nobody's status is told from
// memory (INV-STATUS).
func (c *Cluster) Status(ctx context.Context, id api.Cid, local bool) (api.GlobalPinInfo, error) {
	return c.askHolders(ctx, id, local, c.LocalStatus, c.remote.Status)
}

// Recover makes the holders of a pin try it again now if it failed.
func (c *Cluster) Recover(ctx context.Context, id api.Cid, local bool) (api.GlobalPinInfo, error) {
	return c.askHolders(ctx, id, local, c.LocalRecover, c.remote.Recover)
}

func (c *Cluster) askHolders(ctx context.Context, id api.Cid, local bool,
	here func(context.Context, api.Cid) (api.PinInfo, error),
	there func(context.Context, peer.ID, api.Cid) (api.PinInfo, error)) (api.GlobalPinInfo, error) {
	c.catchUp(ctx)
	pin, exists, err := c.state.Get(id.Cid)
	if err != nil {
		return api.GlobalPinInfo{}, err
	}
	if !exists {
		pin = api.Pin{Cid: id}
	}
	global := pin.GlobalInfo()
	if local {
		info, err := here(ctx, id)
		global.PeerMap[c.cfg.Self.String()] = info.PinInfoShort
		return global, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.PeerTimeout)
	defer cancel()
	var mu sync.Mutex
	var asked sync.WaitGroup
	for _, member := range c.memberIDs() {
		if exists && !pin.AllocatedTo(member) {
			mu.Lock() // those asked before may be answering
			global.PeerMap[member.String()] = c.about(member, api.StatusRemote, pin.Timestamp, "")
			mu.Unlock()
			continue
		}
		asked.Go(func() {
			info, err := c.askOne(ctx, member, id, here, there)
			if err != nil {
				info.PinInfoShort = c.about(member, api.StatusClusterError, time.Now(), err.Error())
			}
			if exists && err == nil {
				info.PinInfoShort = c.unlessBehind(member, pin, info.PinInfoShort)
			}
			mu.Lock()
			defer mu.Unlock()
			global.PeerMap[member.String()] = info.PinInfoShort
		})
	}
	asked.Wait()
	return global, nil
}

// unlessBehind is what a holder of a pin answered. One that says that it does
// not hold it has not come to the log's entry yet, as after a crash of all
// peers at once: what it has is not known, and it will be asked of it
// (INV-STATUS).
func (c *Cluster) unlessBehind(member peer.ID, pin api.Pin, answer api.PinInfoShort) api.PinInfoShort {
	if answer.Status != api.StatusUnpinned && answer.Status != api.StatusRemote {
		return answer
	}
	answer.Status, answer.Timestamp = api.StatusPinQueued, pin.Timestamp
	answer.Error = fmt.Sprintf("%s does not know yet that it holds this pin: it is behind the entry %d of the log, or this peer is", c.nameOf(member), pin.Revision)
	return answer
}

func (c *Cluster) askOne(ctx context.Context, member peer.ID, id api.Cid,
	here func(context.Context, api.Cid) (api.PinInfo, error),
	there func(context.Context, peer.ID, api.Cid) (api.PinInfo, error)) (api.PinInfo, error) {
	if member == c.cfg.Self {
		return here(ctx, id)
	}
	var info api.PinInfo
	err := c.ask(ctx, member, func() (err error) {
		info, err = there(ctx, member, id)
		return err
	})
	return info, err
}

// reachable says why it is of no use to ask a peer now, if it is not.
func (c *Cluster) reachable(member peer.ID) error {
	if view, ok := c.view(member); ok && view.State == api.PeerDown {
		return api.Errorf(api.CodeUnavailable, "the peer is down since %s", view.Since.UTC().Format(time.RFC3339))
	}
	if since, silent := c.silences.of(member); silent {
		return api.Errorf(api.CodeUnavailable, "the peer did not answer at %s and is asked again after %s", since.UTC().Format(time.RFC3339), silenceTime)
	}
	return nil
}

// about is a status of another peer that this one can tell by itself.
func (c *Cluster) about(member peer.ID, status api.TrackerStatus, at time.Time, reason string) api.PinInfoShort {
	short := api.PinInfoShort{Status: status, Timestamp: at, Error: reason}
	if view, ok := c.view(member); ok {
		short.IPFS, short.IPFSAddresses = view.Report.IPFS, view.Report.IPFSAddresses
	}
	short.PeerName = c.nameOf(member)
	return short
}

// nameOf is the name of a member, or "" when it is not known.
func (c *Cluster) nameOf(member peer.ID) string {
	if view, ok := c.view(member); ok && view.Report.Name != "" {
		return view.Report.Name
	}
	record, _, err := c.state.Member(member)
	if err != nil {
		return ""
	}
	return record.Name
}

// Released says whether a peer that a pin moved away from may drop its copy:
// as many of the new holders have the pin as it must have replicas.
func (c *Cluster) Released(ctx context.Context, pin api.Pin) bool {
	status, err := c.Status(ctx, pin.Cid, false)
	if err != nil {
		return false
	}
	pinned := 0
	for name, short := range status.PeerMap {
		if short.Status == api.StatusPinned && name != c.cfg.Self.String() {
			pinned++
		}
	}
	need := max(1, min(pin.ReplicationFactorMin, len(pin.Allocations)))
	return pinned >= need
}

func (c *Cluster) memberIDs() []peer.ID {
	members := c.membership.Members()
	ids := make([]peer.ID, 0, len(members))
	for _, m := range members {
		ids = append(ids, m.ID)
	}
	slices.Sort(ids)
	return ids
}

// StatusAll streams the statuses of many pins in the order of their CIDs'
// bytes, merged from the peers' own ordered lists in constant memory.
func (c *Cluster) StatusAll(ctx context.Context, q api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
	if len(q.Cids) > 0 {
		return c.statusEach(ctx, q)
	}
	if !q.Pins.SelectsAll() {
		return c.statusSelected(ctx, q)
	}
	return func(yield func(api.GlobalPinInfo, error) bool) {
		c.catchUp(ctx)
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		m := c.newMerge(ctx, q)
		defer m.stop()
		for sent := 0; q.Limit == 0 || sent < q.Limit; {
			info, ok, err := m.next(ctx)
			if err != nil {
				yield(api.GlobalPinInfo{}, err)
				return
			}
			if !ok {
				return
			}
			if len(info.PeerMap) == 0 {
				continue
			}
			if !yield(info, nil) {
				return
			}
			sent++
		}
	}
}

// statusEach asks for CIDs one by one, and keeps the peers that the filter
// selects.
func (c *Cluster) statusEach(ctx context.Context, q api.StatusQuery) iter.Seq2[api.GlobalPinInfo, error] {
	return func(yield func(api.GlobalPinInfo, error) bool) {
		for _, id := range q.Cids {
			if selected, err := c.selects(q.Pins, id); !selected {
				if err != nil {
					yield(api.GlobalPinInfo{}, err)
					return
				}
				continue
			}
			info, err := c.Status(ctx, id, q.Local)
			for name, short := range info.PeerMap {
				if !short.Status.Match(q.Filter) {
					delete(info.PeerMap, name)
				}
			}
			if err == nil && len(info.PeerMap) == 0 {
				continue
			}
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// RecoverAll makes peers try their failed pins again now, and streams those
// that were queued. The errors of peers come last: the others are asked all the
// same.
func (c *Cluster) RecoverAll(ctx context.Context, local bool) iter.Seq2[api.GlobalPinInfo, error] {
	return func(yield func(api.GlobalPinInfo, error) bool) {
		members := []peer.ID{c.cfg.Self}
		if !local {
			members = c.memberIDs()
		}
		var failed []error
		for _, member := range members {
			items, asked := c.LocalRecoverAll(ctx), time.Now()
			if member != c.cfg.Self {
				if err := c.reachable(member); err != nil {
					c.logger.Warn("peer left out of recover", "peer", member, "err", err)
					continue
				}
				items = c.remote.RecoverAll(ctx, member)
			}
			for info, err := range items {
				if err != nil {
					c.unanswered(ctx, member, asked, err)
					failed = append(failed, fmt.Errorf("peer %s (%s): %w", c.nameOf(member), member, err))
					break
				}
				global := c.begin(info.Cid)
				global.PeerMap[member.String()] = info.PinInfoShort
				if !yield(global, nil) {
					return
				}
			}
		}
		if err := errors.Join(failed...); err != nil {
			yield(api.GlobalPinInfo{}, err)
		}
	}
}

// begin starts a status with what the pinset knows.
func (c *Cluster) begin(id api.Cid) api.GlobalPinInfo {
	pin, exists, err := c.state.Get(id.Cid)
	if err != nil || !exists {
		pin = api.Pin{Cid: id}
	}
	return pin.GlobalInfo()
}
