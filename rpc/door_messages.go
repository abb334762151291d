package rpc

import (
	"errors"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"holdfast/api"
)

// question is what a stranger asks; one of its fields is there.
type question struct {
	Join     *joinMessage `json:"join,omitempty"`
	Standing *Nothing     `json:"standing,omitempty"`
}

type answer struct {
	Error    *api.Error       `json:"error,omitempty"`
	Join     *admittedMessage `json:"join,omitempty"`
	Standing *standingMessage `json:"standing,omitempty"`
}

type joinMessage struct {
	Credential string        `json:"credential"`
	ClusterID  string        `json:"cluster,omitempty"`
	Member     memberMessage `json:"member"`
	Version    string        `json:"version"`
	Protocol   string        `json:"protocol"`
	Time       time.Time     `json:"time"`
}

type memberMessage struct {
	ID             peer.ID   `json:"id"`
	Name           string    `json:"name"`
	Addresses      []string  `json:"addresses,omitempty"`
	JoinedAt       time.Time `json:"joined_at,omitzero"`
	Role           api.Role  `json:"role,omitempty"`
	CommandVersion uint32    `json:"command_version,omitempty"`
}

type admittedMessage struct {
	ClusterID string          `json:"cluster"`
	Members   []memberMessage `json:"members"`
}

type standingMessage struct {
	Member    bool      `json:"member"`
	Recovered time.Time `json:"recovered,omitzero"`
}

func newJoinMessage(r api.JoinRequest) *joinMessage {
	return &joinMessage{Credential: r.Credential, ClusterID: r.ClusterID, Member: newMemberMessage(r.Member),
		Version: r.Version, Protocol: r.Protocol, Time: r.Time}
}

func (m *joinMessage) request() (api.JoinRequest, error) {
	member, err := m.Member.member()
	r := api.JoinRequest{Credential: m.Credential, ClusterID: m.ClusterID, Member: member, Version: m.Version, Protocol: m.Protocol, Time: m.Time}
	if err == nil {
		err = r.Validate()
	}
	return r, err
}

func newMemberMessage(m api.Member) memberMessage {
	out := memberMessage{ID: m.ID, Name: m.Name, JoinedAt: m.JoinedAt, Role: m.Role, CommandVersion: m.CommandVersion}
	for _, addr := range m.Addresses {
		out.Addresses = append(out.Addresses, addr.String())
	}
	return out
}

func (m memberMessage) member() (api.Member, error) {
	out := api.Member{ID: m.ID, Name: m.Name, JoinedAt: m.JoinedAt, Role: m.Role, CommandVersion: m.CommandVersion}
	for _, text := range m.Addresses {
		addr, err := multiaddr.NewMultiaddr(text)
		if err != nil {
			return out, api.Errorf(api.CodeInvalid, "an address of a peer is none: %w", err)
		}
		out.Addresses = append(out.Addresses, addr)
	}
	return out, nil
}

func newAnswer(r Reply[api.JoinReply]) answer {
	if r.Err != nil {
		return answer{Error: r.Err}
	}
	out := &admittedMessage{ClusterID: r.Value.ClusterID, Members: []memberMessage{}}
	for _, m := range r.Value.Members {
		out.Members = append(out.Members, newMemberMessage(m))
	}
	return answer{Join: out}
}

// into writes an answer where the caller expects it.
func (a answer) into(out any) error {
	switch out := out.(type) {
	case *Reply[api.JoinReply]:
		out.Err = a.Error
		if a.Error != nil {
			return nil
		}
		if a.Join == nil {
			return errors.New("it did not answer the question")
		}
		out.Value.ClusterID = a.Join.ClusterID
		for _, m := range a.Join.Members {
			member, err := m.member()
			if err != nil {
				return err
			}
			out.Value.Members = append(out.Value.Members, member)
		}
	case *Reply[api.Standing]:
		out.Err = a.Error
		if a.Error != nil {
			return nil
		}
		if a.Standing == nil {
			return errors.New("it did not answer the question")
		}
		out.Value = api.Standing(*a.Standing)
	}
	return nil
}
