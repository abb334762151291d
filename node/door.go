package node

import (
	"net/http"
	"slices"

	kubop2p "github.com/ipfs/kubo/core/node/libp2p"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"holdfast/api"
)

// closed says that the swarm admits those it knows only: it is not open to the
// public network, and no key of its own decides who comes in.
func (c Config) closed() bool { return !c.Public && !c.Private }

// admits says whether a connection with a peer may be. Whoever is connected
// gets any block by its CID, whichever side dialled.
func (n *Node) admits(id peer.ID) bool {
	if !n.config.closed() || slices.Contains(n.config.Admit, id) {
		return true
	}
	if _, ok := n.peerSet()[id]; ok {
		return true
	}
	return slices.ContainsFunc(n.config.Bootstrap, func(addr string) bool {
		info, err := peer.AddrInfoFromString(addr)
		return err == nil && info.ID == id
	})
}

// notAdmitted is what is said about a peer that may not be connected with.
func notAdmitted(id peer.ID) error {
	return api.Errorf(api.CodeForbidden, "%s is no IPFS node of this cluster, and this peer is private (ipfs.public is false): it speaks to the cluster's own nodes and to those of ipfs.admit only", id)
}

// buildHost makes the swarm's host as Kubo does, with our door before it.
func (n *Node) buildHost(id peer.ID, ps peerstore.Peerstore, options ...libp2p.Option) (host.Host, error) {
	if n.config.closed() {
		options = append(options, func(c *libp2p.Config) error {
			c.ConnectionGater = &door{ConnectionGater: c.ConnectionGater, admits: n.admits}
			return nil
		})
	}
	return kubop2p.DefaultHostOption(id, ps, options...)
}

// door lets in those whom it is told to, as far as Kubo's own gater does.
type door struct {
	connmgr.ConnectionGater // of Swarm.AddrFilters
	admits                  func(peer.ID) bool
}

// InterceptPeerDial keeps us from dialling others.
func (d *door) InterceptPeerDial(id peer.ID) bool {
	return d.admits(id) && d.ConnectionGater.InterceptPeerDial(id)
}

// InterceptSecured refuses as soon as the other side has proved who it is.
func (d *door) InterceptSecured(dir network.Direction, id peer.ID, addrs network.ConnMultiaddrs) bool {
	return d.admits(id) && d.ConnectionGater.InterceptSecured(dir, id, addrs)
}

// InterceptUpgraded is asked by the swarm itself, whatever the transport.
func (d *door) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	if !d.admits(c.RemotePeer()) {
		return false, 0
	}
	return d.ConnectionGater.InterceptUpgraded(c)
}

// turnOut ends the connections with those who are not admitted any more.
func (n *Node) turnOut(o *opened) {
	for _, id := range o.core.PeerHost.Network().Peers() {
		if n.admits(id) {
			continue
		}
		n.logger.Info("IPFS node is not of this cluster any more; its connections end", "id", id)
		_ = o.core.PeerHost.Network().ClosePeer(id) // it is gone, whatever the error
	}
}

// refuseConnect answers a swarm/connect with a peer that is not admitted.
// Kubo's answer would not say why.
func (n *Node) refuseConnect(w http.ResponseWriter, r *http.Request) bool {
	for _, arg := range r.URL.Query()["arg"] {
		info, err := peer.AddrInfoFromString(arg)
		if err == nil && !n.admits(info.ID) {
			rpcError(w, http.StatusForbidden, "swarm/connect: "+notAdmitted(info.ID).Error())
			return true
		}
	}
	return false
}

// unasked tells of the holders of a fetch that were not asked, being no nodes
// of a private cluster; "" when there are none.
func (n *Node) unasked(holders []peer.AddrInfo) string {
	for _, h := range holders {
		if h.ID != "" && h.ID != n.ID() && !n.admits(h.ID) {
			return "; " + notAdmitted(h.ID).Error()
		}
	}
	return ""
}
