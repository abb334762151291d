package adder

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ipfs/boxo/verifcid"
	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/api"
)

// recentBlocks is how many CIDs each of the two generations of a sink's memory
// holds: a block seen in either is not sent again.
const recentBlocks = 1 << 17

// blocksPerBatch bounds a batch of tiny blocks.
const blocksPerBatch = 2048

// sink batches the blocks of one add and sends every batch to every
// destination. At most QueueBatches+2 batches are in memory per destination:
// the one that fills, those that wait and the one that is being put. It is used
// by one goroutine.
type sink struct {
	adder     *Adder
	plan      plan
	placed    bool
	placement api.Placement
	minimum   int // destinations that must stand
	targets   []*target
	failures  []failure
	batch     []api.Block
	bytes     int
	memory    *share
	recent    map[string]struct{}
	older     map[string]struct{}
}

type failure struct {
	peer peer.ID
	err  error
}

func (a *Adder) newSink(plan plan, memory *share) *sink {
	return &sink{adder: a, plan: plan, memory: memory, recent: make(map[string]struct{})}
}

// put takes one block, whose data nobody changes afterwards. It blocks while
// the slowest destination is behind.
func (s *sink) put(ctx context.Context, c cid.Cid, data []byte) error {
	if len(data) > MaxBlockBytes {
		return api.Errorf(api.CodeTooLarge, "block %s has %d bytes; peers exchange at most %d", c, len(data), MaxBlockBytes)
	}
	if err := verifcid.ValidateCid(verifcid.DefaultAllowlist, c); err != nil {
		return api.Errorf(api.CodeInvalid, "block %s: %w", c, err)
	}
	if s.plan.params.OnlyHash {
		return ctx.Err()
	}
	if err := s.place(ctx); err != nil {
		return err
	}
	if c.Prefix().MhType == multihash.IDENTITY {
		return nil
	}
	if again, err := s.sent(c); again || err != nil {
		return err
	}
	s.batch = append(s.batch, api.Block{Cid: api.NewCid(c), Data: data})
	s.bytes += len(data)
	if s.bytes < s.adder.config.BatchBytes && len(s.batch) < blocksPerBatch {
		return nil
	}
	return s.flush(ctx)
}

// sent says whether a block was put a short while ago, and remembers it.
func (s *sink) sent(c cid.Cid) (bool, error) {
	key := c.KeyString()
	if _, ok := s.recent[key]; ok {
		return true, nil
	}
	if _, ok := s.older[key]; ok {
		return true, nil
	}
	if len(s.recent) >= recentBlocks {
		s.memory.give(len(s.older) * bytesPerSent)
		s.older, s.recent = s.recent, make(map[string]struct{})
	}
	if err := s.memory.take(bytesPerSent); err != nil {
		return false, err
	}
	s.recent[key] = struct{}{}
	return false, nil
}

// place asks the cluster who shall hold the blocks, once, and opens the
// destinations.
func (s *sink) place(ctx context.Context) error {
	if s.placed {
		return nil
	}
	deps := s.adder.deps
	options := s.plan.params.PinOptions
	if s.plan.params.Local && len(options.UserAllocations) == 0 {
		// The blocks are here, so this is the best of places.
		options.UserAllocations = []peer.ID{deps.Self}
	}
	placement, err := deps.Cluster.Allocate(ctx, options)
	if err != nil {
		return api.Errorf(api.CodeOf(err), "choose the peers that hold the blocks: %w", err)
	}
	peers := placement.Peers
	s.minimum = max(placement.Min, 1)
	if s.plan.params.Local {
		peers, s.minimum = []peer.ID{deps.Self}, 1
	}
	s.placed, s.placement = true, placement
	for _, id := range peers {
		s.targets = append(s.targets, s.adder.openTarget(ctx, id))
	}
	return s.check(ctx)
}

// flush sends the batch to every destination that stands.
func (s *sink) flush(ctx context.Context) error {
	if len(s.batch) == 0 {
		return nil
	}
	for _, t := range s.targets {
		select {
		case t.batches <- s.batch:
		case <-t.done:
		case <-ctx.Done():
			return fmt.Errorf("send blocks: %w", context.Cause(ctx))
		}
	}
	s.batch, s.bytes = nil, 0
	return s.check(ctx)
}

// check drops the destinations that have ended, and fails when fewer than the
// minimum stand.
func (s *sink) check(ctx context.Context) error {
	s.targets = slices.DeleteFunc(s.targets, func(t *target) bool {
		select {
		case <-t.done:
		default:
			return false
		}
		if t.err != nil && ctx.Err() == nil {
			s.failures = append(s.failures, failure{t.peer, t.err})
			s.adder.deps.Logger.Warn("an add goes on without a destination", "peer", t.peer, "error", t.err)
		}
		return t.err != nil
	})
	if len(s.targets) >= s.minimum {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("send blocks: %w", context.Cause(ctx))
	}
	return s.tooFew()
}

// tooFew tells why too few destinations stand. A full disk is the cause that
// its user can do something about, so it goes first.
func (s *sink) tooFew() error {
	if len(s.failures) == 0 {
		return api.Errorf(api.CodeNotEnoughPeers, "the cluster offers %d peers for the blocks; at least %d must hold them", len(s.targets), s.minimum)
	}
	slices.SortStableFunc(s.failures, func(a, b failure) int { return rank(a) - rank(b) })
	var others []string
	for _, f := range s.failures[1:] {
		others = append(others, fmt.Sprintf("peer %s: %v", f.peer, f.err))
	}
	rest := ""
	if len(others) > 0 {
		rest = "; " + strings.Join(others, "; ")
	}
	first := s.failures[0]
	return api.Errorf(api.CodeOf(first.err), "%d of the peers chosen for the blocks stand, %d must; nothing is pinned: peer %s: %w%s",
		len(s.targets), s.minimum, first.peer, first.err, rest)
}

func rank(f failure) int {
	if api.CodeOf(f.err) == api.CodeNoSpace {
		return 0
	}
	return 1
}

// finish flushes every destination and returns the peers that hold every block.
func (s *sink) finish(ctx context.Context) ([]peer.ID, error) {
	if s.plan.params.OnlyHash {
		return nil, nil
	}
	if err := s.place(ctx); err != nil {
		return nil, err
	}
	if err := s.flush(ctx); err != nil {
		return nil, err
	}
	for _, t := range s.targets {
		close(t.batches)
	}
	for _, t := range s.targets {
		<-t.done
	}
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	var holders []peer.ID
	for _, t := range s.targets {
		holders = append(holders, t.peer)
	}
	s.targets = nil
	return holders, nil
}

// abandon waits until no destination is at work. The context that was given to
// put must have ended.
func (s *sink) abandon() {
	for _, t := range s.targets {
		<-t.done
	}
}
