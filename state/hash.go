package state

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"

	"github.com/cockroachdb/pebble/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"holdfast/state/statepb"
)

// hashFormat says what a hash covers, and stands before it: programs that cover
// something else have hashes that cannot be compared, and can be told apart. The
// first format, without a number, lacked roles and versions.
const hashFormat = 2

// Hash returns a SHA-256, in hex with its format before it, over what the log
// made of the pinset, and the log index at which it stood then. It reads
// everything, without holding anything up. Two peers at one index have one hash.
//
// It covers the cluster ID, the agreed version of commands, pins, members,
// tokens and remembered requests, field by field, so that it does not depend on
// how a version encodes them. What is derived from these, indexes, counters,
// peer numbers and the change feed, is left out.
func (p *Pinset) Hash() (string, uint64, error) {
	g, err := p.acquire()
	if err != nil {
		return "", 0, err
	}
	defer p.release(g)
	snapshot := g.db.NewSnapshot()
	defer snapshot.Close()
	meta, err := loadMeta(snapshot)
	if err != nil {
		return "", 0, fmt.Errorf("hash pinset: %w", err)
	}
	h := hasher{Hash: sha256.New(), peers: *g.peers.Load()}
	h.number(hashFormat)
	h.number(uint64(max(firstVersion, meta.CommandVersion)))
	_, _ = h.Write(h.buf) // never fails
	if err := h.all(snapshot, p.closing.Load); err != nil {
		return "", 0, fmt.Errorf("hash pinset: %w", err)
	}
	return fmt.Sprintf("%d:%s", hashFormat, hex.EncodeToString(h.Sum(nil))), meta.Applied, nil
}

// hasher writes every field with its length before it, so that no two contents
// have the same stream.
type hasher struct {
	hash.Hash
	peers []peer.ID
	buf   []byte
}

func (h *hasher) all(r pebble.Reader, closing func() bool) error {
	for _, part := range []struct {
		prefix byte
		write  func(value []byte) error
	}{
		{prefixCluster, func(value []byte) error { h.bytes(value); return nil }},
		{prefixMember, h.member},
		{prefixPin, h.pinValue},
		{prefixRequests, h.requestIDs},
		{prefixOutcomes, h.outcomes},
		{prefixToken, h.token},
	} {
		h.buf = append(h.buf[:0], part.prefix)
		err := scan(r, []byte{part.prefix}, func(key, value []byte) error {
			if closing() {
				return errClosed()
			}
			h.bytes(key)
			err := part.write(value)
			_, _ = h.Write(h.buf) // never fails
			h.buf = h.buf[:0]
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *hasher) number(n uint64) { h.buf = binary.AppendUvarint(h.buf, n) }

func (h *hasher) signed(n int64) { h.buf = binary.AppendVarint(h.buf, n) }

func (h *hasher) bytes(data []byte) {
	h.number(uint64(len(data)))
	h.buf = append(h.buf, data...)
}

func (h *hasher) list(items [][]byte) {
	h.number(uint64(len(items)))
	for _, item := range items {
		h.bytes(item)
	}
}

func (h *hasher) optional(n *int64) {
	if n == nil {
		h.number(0)
		return
	}
	h.number(1)
	h.signed(*n)
}

func (h *hasher) pinValue(value []byte) error {
	pin := &statepb.Pin{}
	if err := pin.UnmarshalVTUnsafe(value); err != nil {
		return fmt.Errorf("decode pin: %w", err)
	}
	return h.pin(pin)
}

func (h *hasher) pin(pin *statepb.Pin) error {
	h.number(uint64(len(pin.Holders)))
	for _, number := range pin.Holders {
		if number == everywhere || int(number) > len(h.peers) {
			return fmt.Errorf("no peer has number %d", number)
		}
		h.bytes([]byte(h.peers[number-1]))
	}
	h.number(pin.Revision)
	h.signed(int64(pin.Type))
	h.signed(int64(pin.Mode))
	h.signed(int64(pin.ReplicationMin))
	h.signed(int64(pin.ReplicationMax))
	h.bytes(pin.Name)
	h.number(pin.ShardSize)
	h.optional(pin.ExpireAt)
	h.optional(pin.Timestamp)
	h.number(uint64(len(pin.Metadata)))
	for _, kv := range pin.Metadata {
		h.bytes(kv.Key)
		h.bytes(kv.Value)
	}
	h.bytes(pin.PinUpdate)
	h.list(pin.Origins)
	return nil
}

func (h *hasher) requestIDs(value []byte) error {
	h.bytes(value)
	return nil
}

func (h *hasher) outcomes(value []byte) error {
	outcomes := &statepb.Outcomes{}
	if err := outcomes.UnmarshalVTUnsafe(value); err != nil {
		return fmt.Errorf("decode outcomes: %w", err)
	}
	for _, outcome := range outcomes.Outcomes {
		h.bytes(outcome.Cid)
		for _, flag := range []bool{outcome.Unpin, outcome.NotFound, len(outcome.Pin) > 0} {
			if flag {
				h.number(1)
			} else {
				h.number(0)
			}
		}
		if len(outcome.Pin) > 0 {
			if err := h.pinValue(outcome.Pin); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *hasher) member(value []byte) error {
	member := &statepb.Member{}
	if err := proto.Unmarshal(value, member); err != nil {
		return fmt.Errorf("decode member: %w", err)
	}
	h.bytes(member.Id)
	h.bytes(member.Name)
	h.list(member.Addresses)
	h.optional(member.JoinedAt)
	h.signed(int64(member.Role))
	h.number(uint64(max(firstVersion, member.CommandVersion)))
	return nil
}

func (h *hasher) token(value []byte) error {
	token := &statepb.Token{}
	if err := proto.Unmarshal(value, token); err != nil {
		return fmt.Errorf("decode token: %w", err)
	}
	h.signed(token.ExpiresAt)
	h.bytes(token.UsedBy)
	if token.Reusable {
		h.bytes([]byte("reusable"))
	}
	return nil
}
