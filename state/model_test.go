package state_test

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/api"
	"holdfast/state"
)

// command is what every command of the package can do.
type command interface{ Encode() []byte }

// model is the pinset in maps, without indexes, files or encodings.
type model struct {
	pins     map[api.Cid]api.Pin
	requests map[string]answer
	asked    map[string]string // request id → what was asked under it
	members  map[peer.ID]api.Member
	tokens   map[[32]byte]modelToken
	cluster  string
	changes  []api.Change
}

type modelToken struct {
	until time.Time
	by    peer.ID
}

func newModel() *model {
	return &model{pins: map[api.Cid]api.Pin{}, requests: map[string]answer{}, asked: map[string]string{},
		members: map[peer.ID]api.Member{}, tokens: map[[32]byte]modelToken{}}
}

func fails(code api.Code) answer { return answer{Err: &api.Error{Code: code}} }

func (m *model) apply(index uint64, c command) answer {
	out := m.run(index, c)
	if out.Index == 0 {
		out.Index = index
	}
	return out
}

func (m *model) run(index uint64, c command) answer {
	switch c := c.(type) {
	case state.PinCommand:
		return m.request(index, c.RequestID, fmt.Sprint("pin ", c.Pin.Cid), func() answer { return m.pin(index, c) })
	case state.UnpinCommand:
		return m.request(index, c.RequestID, fmt.Sprint("unpin ", c.Cid), func() answer { return m.unpin(index, c) })
	case state.PutMemberCommand:
		if _, ok := m.members[c.Member.ID]; !ok {
			return fails(api.CodeNotFound)
		}
		m.member(c.Member)
	case state.SetRoleCommand:
		member, ok := m.members[c.ID]
		if !ok {
			return fails(api.CodeNotFound)
		}
		member.Role = c.Role
		m.members[c.ID] = member
	case state.RemoveMemberCommand:
		if _, ok := m.members[c.ID]; !ok {
			return fails(api.CodeNotFound)
		}
		delete(m.members, c.ID)
	case state.CreateTokenCommand:
		if _, ok := m.tokens[c.Hash]; ok {
			return fails(api.CodeConflict)
		}
		m.tokens[c.Hash] = modelToken{until: c.ExpiresAt}
	case state.JoinCommand:
		return m.join(c)
	case state.InitClusterCommand:
		if m.cluster != "" {
			return fails(api.CodeConflict)
		}
		m.cluster = c.ClusterID
		m.member(c.Member)
	}
	return answer{}
}

func (m *model) request(index uint64, id, asked string, do func() answer) answer {
	if first, ok := m.requests[id]; ok {
		if m.asked[id] != asked {
			return fails(api.CodeInvalid)
		}
		first.Repeat = true
		return first
	}
	out := do()
	out.Index = index
	if id != "" && (out.Err == nil || out.Err.Code == api.CodeNotFound) {
		m.requests[id], m.asked[id] = out, asked
	}
	return out
}

func (m *model) pin(index uint64, c state.PinCommand) answer {
	if m.pins[c.Pin.Cid].Revision != c.Expect {
		return fails(api.CodeConflict)
	}
	pin := c.Pin
	pin.Revision = index
	pin.ExpireAt = whole(pin.ExpireAt)
	if pin.Timestamp = whole(pin.Timestamp); pin.Timestamp.IsZero() {
		pin.Timestamp = whole(c.At)
	}
	if pin.IsEverywhere() {
		pin.Allocations = nil
	} else if len(pin.Allocations) == 0 {
		return fails(api.CodeInvalid)
	}
	m.pins[pin.Cid] = pin
	m.changed(index, pin.Cid)
	return answer{Pin: pin}
}

func (m *model) unpin(index uint64, c state.UnpinCommand) answer {
	pin, ok := m.pins[api.NewCid(c.Cid)]
	switch {
	case !ok:
		return fails(api.CodeNotFound)
	case pin.Revision != c.Expect:
		return fails(api.CodeConflict)
	}
	delete(m.pins, pin.Cid)
	m.changed(index, pin.Cid)
	return answer{Pin: pin}
}

func (m *model) changed(index uint64, c api.Cid) {
	if change := (api.Change{Index: index, Cid: c}); !slices.Contains(m.changes, change) {
		m.changes = append(m.changes, change)
	}
}

func (m *model) member(member api.Member) {
	if member.JoinedAt.IsZero() {
		member.JoinedAt = m.members[member.ID].JoinedAt
	}
	member.Role = m.members[member.ID].Role
	m.members[member.ID] = member
}

func (m *model) join(c state.JoinCommand) answer {
	token, ok := m.tokens[c.Hash]
	maps.DeleteFunc(m.tokens, func(_ [32]byte, t modelToken) bool { return !c.At.Before(t.until) })
	_, member := m.members[c.Member.ID]
	switch {
	case !ok || !c.At.Before(token.until):
		return fails(api.CodeForbidden)
	case token.by == c.Member.ID && member:
		m.member(c.Member)
		return answer{Repeat: true}
	case token.by != "":
		return fails(api.CodeForbidden)
	}
	m.tokens[c.Hash] = modelToken{until: token.until, by: c.Member.ID}
	m.member(c.Member)
	return answer{}
}

func whole(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Truncate(time.Second).UTC()
}
