package rpc

import (
	"context"
	"fmt"
	"slices"

	"github.com/libp2p/go-libp2p-gorpc"
	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
)

// Role is what a caller is to the peer that it calls.
type Role int

// The roles. Who wants to join, and who was removed, is a stranger.
const (
	Stranger Role = iota
	Learner
	Voter
	Leader
)

// Names of the services on the wire.
const (
	serviceCluster = "Cluster"
	serviceTracker = "Tracker"
	serviceMonitor = "Monitor"
	serviceNode    = "Node"
	// serviceJoiner is not part of the rpc protocol, but has its own.
	serviceJoiner = "Joiner"
)

// A rule says who may call a method.
type rule struct {
	who []Role
	// own says that a caller may speak of itself alone: the peer that the request
	// is about has to be the one that sent it.
	own bool
}

var (
	members  = []Role{Learner, Voter, Leader}
	everyone = []Role{Stranger, Learner, Voter, Leader}
)

// access is who may call what. What is not in it, nobody may.
var access = map[string]rule{
	// Requests of users, which any member passes on to the leader. Who is not the
	// leader says so.
	"Cluster.Pin":                {who: members},
	"Cluster.Unpin":              {who: members},
	"Cluster.Bulk":               {who: members},
	"Cluster.Allocate":           {who: members},
	"Cluster.ReadIndex":          {who: members},
	"Cluster.RemovePeer":         {who: members},
	"Cluster.SetRole":            {who: members},
	"Cluster.TransferLeadership": {who: members},
	"Cluster.CreateToken":        {who: members},
	// What a stranger asked of a member.
	"Cluster.Join": {who: members},
	// What a member tells the leader of itself.
	"Cluster.Decline":   {who: members, own: true},
	"Cluster.PutMember": {who: members, own: true},
	"Monitor.Report":    {who: members, own: true},
	// What members ask one another.
	"Cluster.LocalID":       {who: members},
	"Cluster.IsMember":      {who: members},
	"Cluster.Whereabouts":   {who: members},
	"Cluster.Standing":      {who: members},
	"Tracker.Status":        {who: members},
	"Tracker.StatusAll":     {who: members},
	"Tracker.StatusEach":    {who: members},
	"Tracker.Recover":       {who: members},
	"Tracker.RecoverAll":    {who: members},
	"Tracker.RecoverEach":   {who: members},
	"Node.RepoStat":         {who: members},
	"Node.RepoGC":           {who: members},
	"Node.CollectGarbage":   {who: members},
	"Node.PutBlocks":        {who: members},
	serviceJoiner + ".Join": {who: everyone, own: true},
	// The answer is about who asks.
	serviceJoiner + ".Standing": {who: everyone},
}

// Allowed says whether a peer may call a method.
func Allowed(role Role, service, method string) bool {
	return slices.Contains(access[service+"."+method].who, role)
}

// ownCall refuses a call of somebody who speaks of another peer than itself,
// where the rule of the method wants that.
func ownCall(ctx context.Context, method string, about peer.ID) error {
	from, err := sender(ctx)
	if err != nil {
		return err
	}
	if access[method].own && from != about {
		return api.Errorf(api.CodeForbidden, "peer %s called %s about %s; a peer speaks of itself", from, method, about)
	}
	return nil
}

// sender tells who made a call; the transport authenticated it.
func sender(ctx context.Context) (peer.ID, error) {
	id, err := rpc.GetRequestSender(ctx)
	if err != nil {
		return "", fmt.Errorf("read the sender of a call: %w", err)
	}
	return id, nil
}
