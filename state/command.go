package state

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"holdfast/api"
	"holdfast/state/statepb"
)

// CommandVersion is the highest version of commands that this program knows. A
// change of what Apply makes of an old command needs a new version, because old
// entries must mean for ever what they meant. A cluster accepts a version once
// RaiseVersionCommand has said so.
const CommandVersion = firstVersion

// firstVersion is that of all commands so far. It needs nobody's consent.
const firstVersion uint32 = 1

// PinCommand stores a pin as it is: its allocations are final, nothing is
// looked up or decided when it is applied.
type PinCommand struct {
	Pin    api.Pin
	Expect uint64 // revision of the pin that the decision was made on; 0: there was none
	// RequestID, when set, makes a repeat return the first result.
	RequestID string
	At        time.Time // becomes the pin's Timestamp when that is zero
}

// UnpinCommand removes a pin.
type UnpinCommand struct {
	Cid       cid.Cid
	Expect    uint64 // revision of the pin that the decision was made on
	RequestID string
	At        time.Time
}

// PutMemberCommand replaces what is known of a member. Time of joining and
// role stay. Who is no member, or not any more, has to join: not_found.
type PutMemberCommand struct {
	Member api.Member
}

// RemoveMemberCommand takes a member out; not_found when it is none.
type RemoveMemberCommand struct {
	ID peer.ID
}

// CreateTokenCommand makes a join token valid, once, until ExpiresAt; a reusable
// one admits any number of members. Only the hash of its credential is ever
// known here.
type CreateTokenCommand struct {
	Hash      [32]byte
	ExpiresAt time.Time
	Reusable  bool
}

// JoinCommand uses a token and admits the member. An unknown, used or expired
// token is forbidden; the same member may repeat its own.
type JoinCommand struct {
	Hash   [32]byte
	At     time.Time
	Member api.Member
}

// InitClusterCommand is the first command of a new cluster; a second one is a
// conflict.
type InitClusterCommand struct {
	ClusterID string
	Member    api.Member
}

// SetRoleCommand stores what an operator wishes a member to be; not_found when
// it is none.
type SetRoleCommand struct {
	ID   peer.ID
	Role api.Role
}

// RaiseVersionCommand allows commands up to a version, for ever. It is a
// conflict while a member does not know them.
type RaiseVersionCommand struct {
	Version uint32
}

// Result is what became of one command.
type Result struct {
	Index uint64     // log index of the command, of a repeat: of the first
	Err   *api.Error // why nothing was changed, or nil
	// Repeat says that the request had been seen before, and that this is the
	// result it had then.
	Repeat bool

	// The stored pin, of an unpin the pin as it was. It is made an api.Pin for
	// those who ask: one peer of all that apply a command.
	cid   cid.Cid
	pin   *statepb.Pin
	peers []peer.ID
}

// Pin is the stored pin, or of an unpin the pin as it was; the zero pin when the
// command was refused or is about no pin.
func (r *Result) Pin() (api.Pin, error) {
	if r.pin == nil {
		return api.Pin{}, nil
	}
	return pinFromProto(r.cid, r.pin, r.peers)
}

// Encode returns the log entry.
func (c PinCommand) Encode() []byte {
	return encode(&statepb.Command{Op: &statepb.Command_Pin{Pin: &statepb.PinOp{
		Pin: pinToProto(c.Pin), Expect: c.Expect, Request: requestID(c.RequestID), At: c.At.Unix()}}})
}

// Encode returns the log entry.
func (c UnpinCommand) Encode() []byte {
	return encode(&statepb.Command{Op: &statepb.Command_Unpin{Unpin: &statepb.UnpinOp{
		Cid: c.Cid.Bytes(), Expect: c.Expect, Request: requestID(c.RequestID), At: c.At.Unix()}}})
}

// Encode returns the log entry.
func (c PutMemberCommand) Encode() []byte {
	return encode(&statepb.Command{Op: &statepb.Command_PutMember{PutMember: memberToProto(c.Member)}})
}

// Encode returns the log entry.
func (c RemoveMemberCommand) Encode() []byte {
	return encode(&statepb.Command{Op: &statepb.Command_RemoveMember{RemoveMember: &statepb.RemoveMemberOp{Id: []byte(c.ID)}}})
}

// Encode returns the log entry.
func (c CreateTokenCommand) Encode() []byte {
	return encode(&statepb.Command{Op: &statepb.Command_CreateToken{CreateToken: &statepb.CreateTokenOp{
		Hash: c.Hash[:], ExpiresAt: c.ExpiresAt.Unix(), Reusable: c.Reusable}}})
}

// Encode returns the log entry.
func (c JoinCommand) Encode() []byte {
	return encode(&statepb.Command{Op: &statepb.Command_Join{Join: &statepb.JoinOp{
		Hash: c.Hash[:], At: c.At.Unix(), Member: memberToProto(c.Member)}}})
}

// Encode returns the log entry.
func (c InitClusterCommand) Encode() []byte {
	return encode(&statepb.Command{Op: &statepb.Command_InitCluster{InitCluster: &statepb.InitClusterOp{
		ClusterId: []byte(c.ClusterID), Member: memberToProto(c.Member)}}})
}

// Encode returns the log entry.
func (c SetRoleCommand) Encode() []byte {
	return encode(&statepb.Command{Op: &statepb.Command_SetRole{SetRole: &statepb.SetRoleOp{Id: []byte(c.ID), Role: roleNumbers[c.Role]}}})
}

// Encode returns the log entry.
func (c RaiseVersionCommand) Encode() []byte {
	return encode(&statepb.Command{Op: &statepb.Command_RaiseVersion{RaiseVersion: &statepb.RaiseVersionOp{Version: c.Version}}})
}

func encode(c *statepb.Command) []byte {
	c.Version = firstVersion
	return marshal(c)
}

// marshal encodes a message that this package built: there is no text in it
// that could be refused, so an error is a fault of the program.
func marshal(m interface{ MarshalVT() ([]byte, error) }) []byte {
	data, err := m.MarshalVT()
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", m, err))
	}
	return data
}

// requestID is what the log keeps of a request id: 16 bytes of its hash, so
// that the memory of requests has a size that no client can choose.
func requestID(id string) []byte {
	if id == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(id))
	return sum[:requestIDBytes]
}

const requestIDBytes = 16

// decodeCommand reads a command of a log entry, whose memory it shares, into an
// empty one. An error means that a newer program wrote it, or that it is damaged:
// no result can be given.
func decodeCommand(c *statepb.Command, data []byte, known uint32) error {
	if err := c.UnmarshalVTUnsafe(data); err != nil {
		return fmt.Errorf("decode command: %w", err)
	}
	if c.Version == 0 || c.Version > known {
		return fmt.Errorf("command has version %d, this program knows 1 to %d", c.Version, known)
	}
	var some [8]proto.Message // enough for most, without an allocation
	parts := append(some[:0], c)
	switch op := c.Op.(type) {
	case *statepb.Command_Pin:
		parts = append(parts, op.Pin, op.Pin.Pin)
		for _, kv := range op.Pin.GetPin().GetMetadata() {
			parts = append(parts, kv)
		}
	case *statepb.Command_Unpin:
		parts = append(parts, op.Unpin)
	case *statepb.Command_PutMember:
		parts = append(parts, op.PutMember)
	case *statepb.Command_RemoveMember:
		parts = append(parts, op.RemoveMember)
	case *statepb.Command_CreateToken:
		parts = append(parts, op.CreateToken)
	case *statepb.Command_Join:
		parts = append(parts, op.Join, op.Join.Member)
	case *statepb.Command_InitCluster:
		parts = append(parts, op.InitCluster, op.InitCluster.Member)
	case *statepb.Command_SetRole:
		parts = append(parts, op.SetRole)
	case *statepb.Command_RaiseVersion:
		parts = append(parts, op.RaiseVersion)
	default:
		return fmt.Errorf("command has no operation that this program knows")
	}
	for _, part := range parts {
		if m := part.ProtoReflect(); !m.IsValid() {
			return fmt.Errorf("command lacks its %s", m.Descriptor().Name())
		} else if len(m.GetUnknown()) > 0 {
			return fmt.Errorf("command has a field of %s that this program does not know", m.Descriptor().Name())
		}
	}
	return nil
}
