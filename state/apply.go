package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"holdfast/api"
	"holdfast/state/statepb"
)

// limits bound the memories that are part of the state. They are the same for
// every peer: changing one changes what old log entries do, and needs a new
// CommandVersion.
type limits struct {
	requests uint64 // remembered request ids, at least
	changes  uint64 // CIDs in the change feed
	indexes  uint64 // log indexes in the change feed
	tokens   int    // join tokens
}

// theLimits take some 15 MB for requests and 10 MB for changes.
var theLimits = limits{requests: 100_000, changes: 250_000, indexes: 100_000, tokens: 1_000}

// Apply carries out the commands of one log entry and returns one *Result each,
// in their order; later commands see what earlier ones did. An index that was
// applied before is skipped, with empty results: that is the log being
// replayed after a start.
//
// An error is fatal: nothing of the entry was applied and nothing further will
// be, because this peer would no longer agree with the others. The results do
// not depend on anything but the entries so far (INV-HASH).
func (p *Pinset) Apply(index uint64, commands [][]byte) ([]any, error) {
	p.writer.Lock()
	defer p.writer.Unlock()
	if p.broken != nil {
		return nil, p.broken
	}
	g, err := p.acquire()
	if err != nil {
		return nil, err
	}
	defer p.release(g)
	all := make([]Result, len(commands))
	results := make([]any, len(commands))
	for i := range all {
		results[i] = &all[i]
	}
	if index <= g.meta.Applied {
		return results, nil
	}
	if err := p.apply(g, index, commands, all); err != nil {
		// After a failed write of Pebble's background the fence lets it believe
		// that all is well, and what was read meanwhile may not be there.
		if failed := g.fence.Err(); failed != nil {
			err = failed
		}
		p.broken = fmt.Errorf("apply log entry %d: %w", index, err)
		return nil, p.broken
	}
	p.notify()
	return results, nil
}

func (p *Pinset) apply(g *generation, index uint64, commands [][]byte, results []Result) error {
	if err := g.fence.Err(); err != nil {
		return err
	}
	t := newTx(g, index, p.limits)
	t.known = p.known
	defer t.batch.Close()
	decoded := make([]statepb.Command, len(commands))
	for i, data := range commands {
		if err := decodeCommand(&decoded[i], data, p.known); err != nil {
			return fmt.Errorf("command %d: %w", i, err)
		}
	}
	subjects, err := t.subjects(decoded)
	if err != nil {
		return err
	}
	t.kept = make([]statepb.Outcome, 0, len(commands))
	for i := range decoded {
		result, err := t.run(&decoded[i], subjects[i])
		if err != nil {
			return fmt.Errorf("command %d: %w", i, err)
		}
		if !result.Repeat || result.Index == 0 {
			result.Index = index
		}
		results[i] = result
	}
	if err := t.finish(); err != nil {
		return err
	}
	if err := t.commit(); err != nil {
		return err
	}
	p.lookedUp(g, t.missed)
	if g.present.stale(t.meta.Pins) {
		p.wakeSurvey()
	}
	return nil
}

// tx is one Apply: its writes gathered in a batch, and what later commands of
// the same entry must see of them.
type tx struct {
	g      *generation
	index  uint64
	limits limits
	known  uint32 // version of commands
	batch  *pebble.Batch

	memory    // copies of the generation's, made when they are first written
	peers     []peer.ID
	numbers   map[peer.ID]uint32 // given in this tx
	counted   map[uint32]bool    // peers whose count changed
	changes   []*subject         // pins, in the order of their first change
	announced map[peer.ID][]byte // members written in this tx, as they are stored

	missed int // pins that were looked up and not found

	before, now indexKeys // of one pin; kept for their memory

	requestIDs []byte            // seen first in this tx
	outcomes   statepb.Outcomes  // of these, in their order
	earlier    earlier           // read last
	kept       []statepb.Outcome // where they stand: one piece, with room for one of each command

	ownMembers, ownTokens bool // the maps are copies already
}

func newTx(g *generation, index uint64, limits limits) *tx {
	t := &tx{g: g, index: index, limits: limits, batch: g.db.NewBatch(), memory: g.memory,
		peers: *g.peers.Load(), counted: map[uint32]bool{}, announced: map[peer.ID][]byte{}}
	t.meta = proto.Clone(g.meta).(*statepb.Meta)
	t.peerPins = map[uint32]uint64{}
	return t
}

func (t *tx) run(c *statepb.Command, s *subject) (Result, error) {
	if allowed := t.version(); c.Version > allowed {
		return Result{}, fmt.Errorf("command has version %d, this cluster has agreed on versions up to %d", c.Version, allowed)
	}
	switch op := c.Op.(type) {
	case *statepb.Command_Pin:
		return t.pin(op.Pin, s)
	case *statepb.Command_Unpin:
		return t.unpin(op.Unpin, s)
	case *statepb.Command_PutMember:
		return t.putMember(op.PutMember)
	case *statepb.Command_RemoveMember:
		return t.removeMember(op.RemoveMember)
	case *statepb.Command_CreateToken:
		return t.createToken(op.CreateToken)
	case *statepb.Command_Join:
		return t.join(op.Join)
	case *statepb.Command_InitCluster:
		return t.initCluster(op.InitCluster)
	case *statepb.Command_SetRole:
		return t.setRole(op.SetRole)
	case *statepb.Command_RaiseVersion:
		return t.raiseVersion(op.RaiseVersion)
	}
	return Result{}, fmt.Errorf("command has no operation that this program knows")
}

// number returns the number of a peer in the peer table, giving it the next
// one if it has none.
func (t *tx) number(data []byte) (uint32, error) {
	if n, ok := t.g.numbers[peer.ID(data)]; ok {
		return n, nil
	}
	if n, ok := t.numbers[peer.ID(data)]; ok {
		return n, nil
	}
	id := peer.ID(data)
	if t.numbers == nil {
		t.numbers = map[peer.ID]uint32{}
		t.peers = slices.Clone(t.peers)
	}
	t.meta.Peers++
	t.numbers[id] = t.meta.Peers
	t.peers = append(t.peers, id)
	return t.meta.Peers, t.batch.Set(peerKey(prefixPeer, t.meta.Peers), []byte(id), nil)
}

// count changes the number of pins of a peer.
func (t *tx) count(number uint32, by int) {
	if !t.counted[number] {
		t.counted[number] = true
		t.peerPins[number] = t.g.peerPins[number]
	}
	t.peerPins[number] += uint64(by)
}

// changed notes that a pin was written or removed.
func (t *tx) changed(s *subject) {
	if !s.changed {
		s.changed = true
		t.changes = append(t.changes, s)
	}
}

// finish writes what is written once per entry.
func (t *tx) finish() error {
	for number := range t.counted {
		value := binary.BigEndian.AppendUint64(nil, t.peerPins[number])
		if err := t.batch.Set(peerKey(prefixPeerPins, number), value, nil); err != nil {
			return err
		}
	}
	if len(t.changes) > 0 {
		changes := &statepb.Changes{Cids: make([][]byte, len(t.changes))}
		for i, s := range t.changes {
			changes.Cids[i] = s.bytes()
		}
		value := marshal(changes)
		if err := t.batch.Set(indexKey(prefixChange, t.index), value, nil); err != nil {
			return err
		}
		t.meta.Changes += uint64(len(t.changes))
		t.meta.ChangeIndexes++
		if err := t.trimChanges(); err != nil {
			return err
		}
	}
	if err := t.writeRequests(); err != nil {
		return err
	}
	t.meta.Applied = t.index
	return t.batch.Set(keyMeta, marshal(t.meta), nil)
}

// trimChanges drops the oldest indexes of the change feed while it is too
// large. What this entry brought stays in any case.
func (t *tx) trimChanges() error {
	by := func(slack uint64) bool {
		return t.meta.Changes > t.limits.changes+slack*t.limits.changes/trimSlack ||
			t.meta.ChangeIndexes > t.limits.indexes+slack*t.limits.indexes/trimSlack
	}
	if !by(1) {
		return nil
	}
	return t.trim(prefixChange, t.meta.ChangeFloor, func(index uint64, value []byte) (bool, error) {
		if !by(0) {
			return false, nil
		}
		changes := &statepb.Changes{}
		if err := changes.UnmarshalVTUnsafe(value); err != nil {
			return false, err
		}
		t.meta.Changes -= uint64(len(changes.Cids))
		t.meta.ChangeIndexes--
		t.meta.ChangeFloor = index
		return true, nil
	})
}

// trimSlack is the part of a limit by which it may be exceeded before what is
// too much is dropped: all at once is cheaper than a little with every Apply.
const trimSlack = 64

// trim deletes the keys of a prefix and a log index above floor, from the
// oldest, as long as fn says so. The lower bound keeps it from wading through
// what was deleted before.
func (t *tx) trim(prefix byte, floor uint64, fn func(index uint64, value []byte) (bool, error)) error {
	it, err := t.g.db.NewIter(&pebble.IterOptions{LowerBound: indexKey(prefix, floor+1), UpperBound: after([]byte{prefix})})
	if err != nil {
		return fmt.Errorf("trim %q: %w", prefix, err)
	}
	more := true
	for ok := it.First(); ok && more; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err == nil {
			more, err = fn(binary.BigEndian.Uint64(it.Key()[1:]), value)
		}
		if err == nil && more {
			err = t.batch.Delete(it.Key(), nil)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("trim %q: %w", prefix, err), it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// commit writes the batch, with the applied index in it, and then shows it. It
// is not synced, because the log is the durable copy, unless members changed:
// a peer that lost those in a crash could not dial anybody who would tell it
// how far the log is committed.
func (t *tx) commit() error {
	g := t.g
	// Readers may meet a new peer number as soon as the batch is in.
	g.peers.Store(&t.peers)
	maps.Copy(g.numbers, t.numbers)
	sync := pebble.NoSync
	if t.ownMembers {
		sync = pebble.Sync
	}
	g.present.add(t.changes)
	if err := t.batch.Commit(sync); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := g.fence.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	maps.Copy(g.peerPins, t.peerPins)
	for _, s := range t.changes {
		g.recent.put(s.c.KeyString(), s.value)
	}
	g.meta, g.cluster, g.members, g.tokens = t.meta, t.cluster, t.members, t.tokens
	return nil
}

func refuse(code api.Code, format string, args ...any) Result {
	return Result{Err: api.Errorf(code, format, args...)}
}
