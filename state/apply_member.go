package state

import (
	"fmt"
	"maps"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/state/statepb"
)

func (t *tx) putMember(in *statepb.Member) (Result, error) {
	member, err := memberFromProto(in)
	if err != nil {
		return noMember(err), nil
	}
	// A peer that announces itself may race its own removal.
	if _, ok := t.members[member.ID]; !ok {
		return refuse(api.CodeNotFound, "%s is not a member of this cluster; it has to join", member.ID), nil
	}
	if err := t.tooOld(member); err != nil {
		return Result{Err: err}, nil
	}
	return Result{}, t.writeMember(member, in)
}

func noMember(err error) Result {
	return refuse(api.CodeInvalid, "this can be no member: %w", err)
}

// writeMember stores a member in the form in which it came, which may hold
// addresses that this version cannot read.
func (t *tx) writeMember(member api.Member, in *statepb.Member) error {
	known, ok := t.members[member.ID]
	if ok && in.JoinedAt == nil {
		member.JoinedAt = known.JoinedAt
		in.JoinedAt = seconds(known.JoinedAt)
	}
	member.Role, in.Role = known.Role, roleNumbers[known.Role]
	t.copyMembers()
	t.members[member.ID] = member
	return t.setMember(member.ID, marshal(in))
}

// setMember writes a member as it is stored.
func (t *tx) setMember(id peer.ID, value []byte) error {
	t.announced[id] = value
	return t.batch.Set(memberKey(id), value, nil)
}

// copyMembers makes the map of members this tx's own: readers may be looking
// at the other.
func (t *tx) copyMembers() {
	if !t.ownMembers {
		t.members, t.ownMembers = maps.Clone(t.members), true
	}
}

func (t *tx) removeMember(op *statepb.RemoveMemberOp) (Result, error) {
	id, err := peer.IDFromBytes(op.Id)
	if err != nil {
		return noMember(err), nil
	}
	if _, ok := t.members[id]; !ok {
		return refuse(api.CodeNotFound, "%s is not a member of this cluster", id), nil
	}
	t.copyMembers()
	delete(t.members, id)
	delete(t.announced, id)
	return Result{}, t.batch.Delete(memberKey(id), nil)
}

func (t *tx) createToken(op *statepb.CreateTokenOp) (Result, error) {
	hash, err := tokenHash(op.Hash)
	if err != nil {
		return Result{}, err
	}
	if _, known := t.tokens[hash]; known {
		return refuse(api.CodeConflict, "this join token exists already; create another"), nil
	}
	if len(t.tokens) >= t.limits.tokens {
		if err := t.dropToken(t.soonest()); err != nil {
			return Result{}, err
		}
	}
	return Result{}, t.writeToken(hash, token{expiresAt: op.ExpiresAt, reusable: op.Reusable})
}

// soonest is the token that expires first, which is the one to give up when
// there are too many; of several, the one with the lowest hash.
func (t *tx) soonest() [32]byte {
	var out [32]byte
	first := true
	for hash, tok := range t.tokens {
		best := t.tokens[out]
		if first || tok.expiresAt < best.expiresAt ||
			tok.expiresAt == best.expiresAt && string(hash[:]) < string(out[:]) {
			out, first = hash, false
		}
	}
	return out
}

func (t *tx) join(op *statepb.JoinOp) (Result, error) {
	hash, err := tokenHash(op.Hash)
	if err != nil {
		return Result{}, err
	}
	member, err := memberFromProto(op.Member)
	if err != nil {
		return noMember(err), nil
	}
	tok, known := t.tokens[hash]
	if err := t.dropExpired(op.At); err != nil {
		return Result{}, err
	}
	if err := t.tooOld(member); err != nil {
		return Result{Err: err}, nil
	}
	_, repeat := t.members[member.ID]
	if err := judgeToken(tok, known, repeat, member.ID, op.At); err != nil {
		return Result{Err: err}, nil
	}
	if tok.reusable || tok.usedBy != "" {
		return Result{Repeat: repeat}, t.writeMember(member, op.Member)
	}
	if err := t.writeToken(hash, token{expiresAt: tok.expiresAt, usedBy: member.ID}); err != nil {
		return Result{}, err
	}
	return Result{}, t.writeMember(member, op.Member)
}

func (t *tx) dropExpired(now int64) error {
	for hash, tok := range t.tokens {
		if now >= tok.expiresAt {
			if err := t.dropToken(hash); err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *tx) writeToken(hash [32]byte, tok token) error {
	t.copyTokens()
	t.tokens[hash] = tok
	value := marshal(&statepb.Token{ExpiresAt: tok.expiresAt, UsedBy: []byte(tok.usedBy), Reusable: tok.reusable})
	return t.batch.Set(tokenKey(hash), value, nil)
}

func (t *tx) dropToken(hash [32]byte) error {
	t.copyTokens()
	delete(t.tokens, hash)
	return t.batch.Delete(tokenKey(hash), nil)
}

func (t *tx) copyTokens() {
	if !t.ownTokens {
		t.tokens, t.ownTokens = maps.Clone(t.tokens), true
	}
}

func tokenHash(data []byte) ([32]byte, error) {
	if len(data) != 32 {
		return [32]byte{}, fmt.Errorf("hash of a token has %d bytes, want 32", len(data))
	}
	return [32]byte(data), nil
}

func (t *tx) initCluster(op *statepb.InitClusterOp) (Result, error) {
	member, err := memberFromProto(op.Member)
	if err != nil {
		return noMember(err), nil
	}
	if t.cluster != "" {
		return refuse(api.CodeConflict, "the cluster exists already: it is %s", t.cluster), nil
	}
	if len(op.ClusterId) == 0 {
		return refuse(api.CodeInvalid, "a cluster needs an ID"), nil
	}
	t.cluster = string(op.ClusterId)
	if err := t.batch.Set(keyCluster, op.ClusterId, nil); err != nil {
		return Result{}, err
	}
	return Result{}, t.writeMember(member, op.Member)
}
