package state

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
	"holdfast/state/statepb"
)

var typeNames = map[statepb.Type]api.PinType{
	statepb.Type_DATA:        api.TypeData,
	statepb.Type_META:        api.TypeMeta,
	statepb.Type_CLUSTER_DAG: api.TypeClusterDAG,
	statepb.Type_SHARD:       api.TypeShard,
}

// typeNumber returns the number of a type; data for "" and for what no pin can
// be.
func typeNumber(t api.PinType) statepb.Type {
	for number, name := range typeNames {
		if name == t {
			return number
		}
	}
	return statepb.Type_DATA
}

// pinToProto is the pin as a command carries it. UserAllocations are left out:
// they are a wish of one request.
func pinToProto(p api.Pin) *statepb.Pin {
	out := &statepb.Pin{
		Cid:            p.Cid.Bytes(),
		Type:           typeNumber(p.Type),
		ReplicationMin: int32(p.ReplicationFactorMin),
		ReplicationMax: int32(p.ReplicationFactorMax),
		Name:           []byte(p.Name),
		ShardSize:      p.ShardSize,
		ExpireAt:       seconds(p.ExpireAt),
		Timestamp:      seconds(p.Timestamp),
		PinUpdate:      p.PinUpdate.Bytes(),
	}
	if p.Mode == api.ModeDirect {
		out.Mode = statepb.Mode_DIRECT
	}
	out.Allocations = make([][]byte, len(p.Allocations))
	var ids []byte // all in one piece
	for _, id := range p.Allocations {
		ids = append(ids, id...)
	}
	for i, id := range p.Allocations {
		out.Allocations[i], ids = ids[:len(id):len(id)], ids[len(id):]
	}
	for k, v := range p.Metadata {
		out.Metadata = append(out.Metadata, &statepb.KeyValue{Key: []byte(k), Value: []byte(v)})
	}
	slices.SortFunc(out.Metadata, func(a, b *statepb.KeyValue) int { return slices.Compare(a.Key, b.Key) })
	for _, origin := range p.Origins {
		out.Origins = append(out.Origins, origin.Bytes())
	}
	return out
}

// pinFromProto is the pin of a stored value; peers[n-1] is the peer of number n.
func pinFromProto(c cid.Cid, in *statepb.Pin, peers []peer.ID) (api.Pin, error) {
	name, known := typeNames[in.Type]
	if !known {
		return api.Pin{}, fmt.Errorf("pin %s: unknown type %d", c, in.Type)
	}
	out := api.Pin{
		PinOptions: api.PinOptions{
			ReplicationFactorMin: int(in.ReplicationMin),
			ReplicationFactorMax: int(in.ReplicationMax),
			Name:                 string(in.Name),
			Mode:                 api.ModeRecursive,
			ShardSize:            in.ShardSize,
			ExpireAt:             timeOf(in.ExpireAt),
		},
		Cid:       api.NewCid(c),
		Type:      name,
		Timestamp: timeOf(in.Timestamp),
		Revision:  in.Revision,
	}
	switch in.Mode {
	case statepb.Mode_RECURSIVE:
	case statepb.Mode_DIRECT:
		out.Mode = api.ModeDirect
	default:
		return api.Pin{}, fmt.Errorf("pin %s: unknown mode %d", c, in.Mode)
	}
	out.MaxDepth = out.Mode.MaxDepth()
	if len(in.Holders) > 0 {
		out.Allocations = make([]peer.ID, 0, len(in.Holders))
	}
	for _, number := range in.Holders {
		if number == everywhere || int(number) > len(peers) {
			return api.Pin{}, fmt.Errorf("pin %s: no peer has number %d", c, number)
		}
		out.Allocations = append(out.Allocations, peers[number-1])
	}
	if len(in.Metadata) > 0 {
		out.Metadata = make(map[string]string, len(in.Metadata))
		for _, kv := range in.Metadata {
			out.Metadata[string(kv.Key)] = string(kv.Value)
		}
	}
	out.Origins = addrsFromProto(in.Origins)
	if err := out.PinUpdate.UnmarshalBinary(in.PinUpdate); err != nil {
		return api.Pin{}, fmt.Errorf("pin %s: updated from: %w", c, err)
	}
	return out, nil
}

func memberToProto(m api.Member) *statepb.Member {
	out := &statepb.Member{Id: []byte(m.ID), Name: []byte(m.Name), JoinedAt: seconds(m.JoinedAt),
		Role: roleNumbers[m.Role], CommandVersion: m.CommandVersion}
	for _, addr := range m.Addresses {
		out.Addresses = append(out.Addresses, addr.Bytes())
	}
	return out
}

func memberFromProto(in *statepb.Member) (api.Member, error) {
	id, err := peer.IDFromBytes(in.GetId())
	if err != nil {
		return api.Member{}, fmt.Errorf("member: %w", err)
	}
	return api.Member{ID: id, Name: string(in.Name), Addresses: addrsFromProto(in.Addresses), JoinedAt: timeOf(in.JoinedAt),
		Role: roleOf(in.Role), CommandVersion: in.CommandVersion}, nil
}

var roleNumbers = map[api.Role]statepb.Role{
	api.RoleVoter:   statepb.Role_VOTER,
	api.RoleLearner: statepb.Role_LEARNER,
}

// roleOf is "" for auto, as in a member that nobody wished anything for.
func roleOf(role statepb.Role) api.Role {
	switch role {
	case statepb.Role_VOTER:
		return api.RoleVoter
	case statepb.Role_LEARNER:
		return api.RoleLearner
	}
	return ""
}

// addrsFromProto leaves out addresses that this version cannot read: a newer
// peer may have stored them, and an address is only a hint.
func addrsFromProto(in [][]byte) []multiaddr.Multiaddr {
	var out []multiaddr.Multiaddr
	for _, data := range in {
		if addr, err := multiaddr.NewMultiaddrBytes(data); err == nil {
			out = append(out, addr)
		}
	}
	return out
}

// seconds is the time in whole seconds, or nil for the zero time.
func seconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	s := t.Unix()
	return &s
}

func timeOf(s *int64) time.Time {
	if s == nil {
		return time.Time{}
	}
	return time.Unix(*s, 0).UTC()
}

// comparePeers orders members for listings.
func comparePeers(a, b api.Member) int { return cmp.Compare(a.ID, b.ID) }
