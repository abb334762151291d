package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// peeringEvery is how often it is looked who the members are and which IPFS
// nodes are theirs, at least.
const peeringEvery = 2 * time.Second

// keepPeering keeps the IPFS nodes of the cluster connected to one another. In
// a private cluster a node also admits no others than these. They are remembered
// over a restart: while there is no leader nobody reports, and members that all
// come back at once would refuse one another.
func (d *Daemon) keepPeering(ctx context.Context) error {
	again := time.NewTicker(peeringEvery)
	defer again.Stop()
	var last string
	nodes, err := loadMemberNodes(d.opts.Dir)
	if err != nil {
		d.logger.Warn("which IPFS nodes are the members' is not known from before; they are admitted when they report", "err", err)
	}
	for {
		changed := d.monitor.Changed()
		nodes.update(d.monitor.View(), d.memberIDs())
		delete(nodes, d.ID())
		infos := nodes.list()
		if now := fmt.Sprint(infos); now != last {
			d.node.Peer(infos)
			if err := nodes.save(d.opts.Dir); err != nil {
				d.logger.Warn("which IPFS nodes are the members' cannot be remembered", "err", err)
			}
			last = now
		}
		select {
		case <-changed:
		case <-again.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// memberNodes are the IPFS nodes of the members, by member, as last reported.
type memberNodes map[peer.ID]peer.AddrInfo

// loadMemberNodes reads what was last known. Where there is no such file, or it
// is damaged, nothing is known. It needs no seal: a node proves its ID by its
// key, so that an ID which was not written admits nobody.
func loadMemberNodes(dir string) (memberNodes, error) {
	var stored []memberNodeJSON
	err := readJSON(filepath.Join(dir, nodesFile), &stored)
	if errors.Is(err, os.ErrNotExist) {
		return memberNodes{}, nil
	}
	if err != nil {
		return memberNodes{}, err
	}
	nodes := memberNodes{}
	for _, s := range stored {
		if s.Member != "" && s.Node.ID != "" {
			nodes[s.Member] = s.Node
		}
	}
	return nodes, nil
}

type memberNodeJSON struct {
	Member peer.ID       `json:"member"`
	Node   peer.AddrInfo `json:"node"`
}

func (m memberNodes) save(dir string) error {
	stored := []memberNodeJSON{}
	for member, node := range m {
		stored = append(stored, memberNodeJSON{member, node})
	}
	slices.SortFunc(stored, func(a, b memberNodeJSON) int { return cmp.Compare(a.Member, b.Member) })
	return writeJSON(filepath.Join(dir, nodesFile), stored)
}

// update takes in what was reported. A new leader has heard nothing of some
// members for a moment: they keep the node they had, as long as they are
// members. A peer that knows no members yet, as its log has not come, believes
// the leader.
func (m memberNodes) update(views []api.PeerView, members []peer.ID) {
	reported := map[peer.ID]bool{}
	for _, view := range views {
		reported[view.Report.Peer] = true
		if view.Report.IPFS != "" {
			m[view.Report.Peer] = ipfsInfo(view.Report)
		}
	}
	for id := range m {
		gone := !slices.Contains(members, id)
		if len(members) == 0 {
			gone = len(views) > 0 && !reported[id]
		}
		if gone {
			delete(m, id)
		}
	}
}

func (m memberNodes) list() []peer.AddrInfo {
	infos := make([]peer.AddrInfo, 0, len(m))
	for _, info := range m {
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b peer.AddrInfo) int { return cmp.Compare(a.ID, b.ID) })
	return infos
}
