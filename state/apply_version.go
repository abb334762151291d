package state

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"holdfast/api"
	"holdfast/state/statepb"
)

// version is the highest version of commands that the cluster has agreed on.
func (t *tx) version() uint32 { return max(firstVersion, t.meta.CommandVersion) }

// knows is the highest version of commands that a member's program knows.
func knows(member api.Member) uint32 { return max(firstVersion, member.CommandVersion) }

// tooOld refuses a member whose program would not understand the log.
func (t *tx) tooOld(member api.Member) *api.Error {
	if knows(member) >= t.version() {
		return nil
	}
	return api.Errorf(api.CodeInvalid, "this cluster uses commands of version %d, and the program of %s knows them up to version %d only; install the version that the other peers run",
		t.version(), member.ID, knows(member))
}

func (t *tx) raiseVersion(op *statepb.RaiseVersionOp) (Result, error) {
	for id, member := range t.members {
		if knows(member) < op.Version {
			return refuse(api.CodeConflict, "the cluster cannot use commands of version %d yet: the program of a member knows them up to version %d only; upgrade all peers", op.Version, t.oldest(id)), nil
		}
	}
	if op.Version > t.known {
		// A member claimed to know more than its program does.
		return Result{}, api.Errorf(api.CodeInvalid, "the cluster uses commands of version %d from here on, and this program knows them up to version %d; install a newer one", op.Version, t.known)
	}
	t.meta.CommandVersion = max(t.meta.CommandVersion, op.Version)
	return Result{}, nil
}

// oldest is the version that all members know. Every peer gives the same
// answer, whichever member it came upon first.
func (t *tx) oldest(any peer.ID) uint32 {
	low := knows(t.members[any])
	for _, member := range t.members {
		low = min(low, knows(member))
	}
	return low
}

func (t *tx) setRole(op *statepb.SetRoleOp) (Result, error) {
	id, err := peer.IDFromBytes(op.Id)
	if err != nil {
		return noMember(err), nil
	}
	member, ok := t.members[id]
	if !ok {
		return refuse(api.CodeNotFound, "%s is not a member of this cluster", id), nil
	}
	// The stored form may hold what this version cannot read; it stays.
	value, written := t.announced[id]
	if !written {
		if value, _, err = get(t.g.db, memberKey(id)); err != nil {
			return Result{}, err
		}
	}
	stored := &statepb.Member{}
	if err := proto.Unmarshal(value, stored); err != nil {
		return Result{}, fmt.Errorf("decode member: %w", err)
	}
	member.Role, stored.Role = roleOf(op.Role), op.Role
	t.copyMembers()
	t.members[id] = member
	return Result{}, t.setMember(id, marshal(stored))
}

// Version is the highest version of commands that the cluster has agreed on.
func (p *Pinset) Version() uint32 {
	g := p.current()
	g.mu.RLock()
	defer g.mu.RUnlock()
	return max(firstVersion, g.meta.CommandVersion)
}

// Known is the highest version of commands that this program knows.
func (p *Pinset) Known() uint32 { return p.known }
