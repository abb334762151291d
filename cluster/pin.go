package cluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"holdfast/allocator"
	"holdfast/api"
	"holdfast/state"
)

// maxRedecisions bounds how often one request is decided again because a bulk
// write, which waits for nobody's turn, changed the same pin meanwhile. Each time
// it is one of two or three that wins, so this is never reached.
const maxRedecisions = 1000

// reportWait is how long a decision waits for the first reports of peers that
// a new leader has not heard of yet.
const reportWait = 5 * time.Second

// nodeOpens is for how long an IPFS node that does not work may be one that has
// not opened yet, and is waited for.
const nodeOpens = 30 * time.Second

// Pin stores a pin and returns it as it was stored. Errors: invalid,
// not_found (of PinUpdate), not_enough_peers, no_leader, unknown_outcome.
func (c *Cluster) Pin(ctx context.Context, req api.PinRequest) (api.PinResult, error) {
	if !req.Cid.Defined() {
		return api.PinResult{}, api.Errorf(api.CodeInvalid, "a pin needs a CID")
	}
	if err := req.Options.Validate(); err != nil {
		return api.PinResult{}, err
	}
	if req.RequestID == "" {
		req.RequestID = NewRequestID()
	}
	result, err := onLeader(ctx, c,
		func(ctx context.Context) (api.PinResult, error) { return c.decidePin(ctx, req) },
		func(ctx context.Context, leader peer.ID) (api.PinResult, error) {
			return c.remote.Pin(ctx, leader, req)
		})
	if err == nil {
		c.sawWrite(result.Index)
	}
	return result, err
}

// Unpin removes a pin and returns it as it was. Errors: not_found, no_leader,
// unknown_outcome.
func (c *Cluster) Unpin(ctx context.Context, req api.UnpinRequest) (api.PinResult, error) {
	if !req.Cid.Defined() {
		return api.PinResult{}, api.Errorf(api.CodeInvalid, "an unpin needs a CID")
	}
	if req.RequestID == "" {
		req.RequestID = NewRequestID()
	}
	result, err := onLeader(ctx, c,
		func(ctx context.Context) (api.PinResult, error) { return c.decideUnpin(ctx, req) },
		func(ctx context.Context, leader peer.ID) (api.PinResult, error) {
			return c.remote.Unpin(ctx, leader, req)
		}, api.CodeNotFound)
	if err == nil {
		c.sawWrite(result.Index)
	}
	return result, err
}

// Allocate says where the blocks of an add shall go. Errors: as Pin.
func (c *Cluster) Allocate(ctx context.Context, options api.PinOptions) (api.Placement, error) {
	if err := options.Validate(); err != nil {
		return api.Placement{}, err
	}
	return onLeader(ctx, c,
		func(ctx context.Context) (api.Placement, error) { return c.decidePlacement(ctx, options) },
		func(ctx context.Context, leader peer.ID) (api.Placement, error) {
			return c.remote.Allocate(ctx, leader, options)
		})
}

// Decline tells the leader that a peer cannot hold a replica.
func (c *Cluster) Decline(ctx context.Context, req api.DeclineRequest) error {
	_, err := onLeader(ctx, c,
		func(ctx context.Context) (struct{}, error) { return struct{}{}, c.decideDecline(ctx, req) },
		func(ctx context.Context, leader peer.ID) (struct{}, error) {
			return struct{}{}, c.remote.Decline(ctx, leader, req)
		})
	return err
}

// decidePin is the leader's part of Pin.
func (c *Cluster) decidePin(ctx context.Context, req api.PinRequest) (api.PinResult, error) {
	return c.decide(ctx, req.Cid, func(ctx context.Context) (command, error) {
		current, _, err := c.state.Get(req.Cid.Cid)
		if err != nil {
			return nil, err
		}
		now := c.wall()
		pin, err := c.plan(ctx, req, current, now, c.place)
		if err != nil {
			return nil, err
		}
		return state.PinCommand{Pin: pin, Expect: current.Revision, RequestID: req.RequestID, At: now}, nil
	})
}

func (c *Cluster) decideUnpin(ctx context.Context, req api.UnpinRequest) (api.PinResult, error) {
	return c.decide(ctx, req.Cid, func(context.Context) (command, error) {
		current, _, err := c.state.Get(req.Cid.Cid)
		if err != nil {
			return nil, err
		}
		return state.UnpinCommand{Cid: req.Cid.Cid, Expect: current.Revision, RequestID: req.RequestID, At: c.wall()}, nil
	})
}

// command is a change of the replicated state.
type command interface{ Encode() []byte }

// decide proposes what next returns about a pin, and asks it again when the pin
// was changed between the decision and its place in the log. So the answer is
// the very pin that was decided (INV-ANSWER). Decisions about one pin wait for
// one another.
func (c *Cluster) decide(ctx context.Context, about api.Cid, next func(context.Context) (command, error)) (api.PinResult, error) {
	if !c.log.IsLeader() {
		return api.PinResult{}, notLeader()
	}
	result, refusal, err := c.decideInTurn(ctx, about, next)
	if refusal != nil {
		return api.PinResult{}, c.certain(ctx, refusal) // others need not wait for that
	}
	return result, err
}

// decideInTurn is decide; refusal is why next wants no change.
func (c *Cluster) decideInTurn(ctx context.Context, about api.Cid, next func(context.Context) (command, error)) (_ api.PinResult, refusal, err error) {
	done, err := c.turns.take(ctx, about.Cid)
	if err != nil {
		return api.PinResult{}, nil, api.Errorf(api.CodeUnavailable, "%s waited for other changes of the same pin, and nothing was changed: %w", about, err)
	}
	defer done()
	for range maxRedecisions {
		cmd, refusal := next(ctx)
		if refusal != nil {
			return api.PinResult{}, refusal, nil
		}
		result, err := c.propose(ctx, cmd)
		if errors.Is(err, api.ErrConflict) {
			continue
		}
		if err != nil {
			return api.PinResult{}, nil, err
		}
		pin, err := result.Pin()
		return api.PinResult{Pin: pin, Index: result.Index}, nil, err
	}
	return api.PinResult{}, nil, api.Errorf(api.CodeConflict, "others keep changing %s; it was decided %d times in vain, try again", about, maxRedecisions)
}

// certain returns a refusal for what the pinset holds only if this peer still
// leads. One that was deposed and does not know it yet would speak of the past.
// Refusals share what that costs, and so wait for a moment when there are many.
func (c *Cluster) certain(ctx context.Context, refusal error) error {
	switch api.CodeOf(refusal) {
	case api.CodeNotFound, api.CodeInvalid, api.CodeConflict:
		if _, err := c.leading.get(ctx); err != nil {
			return err
		}
	}
	return refusal
}

func notLeader() error { return api.Errorf(api.CodeNoLeader, "this peer is not the leader") }

// propose puts one command into the log and returns its result.
func (c *Cluster) propose(ctx context.Context, cmd command) (*state.Result, error) {
	if err := c.allowed(cmd); err != nil {
		return nil, err
	}
	index, value, err := c.log.Propose(ctx, cmd.Encode())
	if err != nil {
		return nil, err
	}
	result, ok := value.(*state.Result)
	if !ok {
		return nil, api.Errorf(api.CodeInternal, "the log answered %T to a command", value)
	}
	if result.Err != nil {
		return nil, result.Err
	}
	if result.Index == 0 {
		result.Index = index
	}
	return result, nil
}

// plan turns a request into the pin that shall be stored.
func (c *Cluster) plan(ctx context.Context, req api.PinRequest, current api.Pin, now time.Time, place placeFunc) (api.Pin, error) {
	options, have, err := c.inherit(req.Options, current)
	if err != nil {
		return api.Pin{}, err
	}
	if err := c.complete(&options, now); err != nil {
		return api.Pin{}, err
	}
	if current.Revision != 0 && current.Mode == api.ModeRecursive && options.Mode == api.ModeDirect {
		return api.Pin{}, api.Errorf(api.CodeInvalid, "%s is pinned recursively; unpin it first to pin it directly", req.Cid)
	}
	pin := api.Pin{PinOptions: options, Cid: req.Cid, Type: api.TypeData, MaxDepth: options.Mode.MaxDepth(),
		Timestamp: now.UTC().Truncate(time.Second)}
	switch {
	case pin.IsEverywhere():
	case len(req.Allocations) > 0:
		pin.Allocations = c.keepHolders(ctx, current, req.Allocations, options)
	default:
		decision, err := place(ctx, allocator.Request{Cid: req.Cid.Cid, Min: options.ReplicationFactorMin,
			Max: options.ReplicationFactorMax, Prefer: options.UserAllocations, Have: have})
		if err != nil {
			return api.Pin{}, err
		}
		pin.Allocations = decision.Allocations
	}
	pin.UserAllocations = nil
	return pin, nil
}

// keepHolders says who holds what was added to some peers. Content that was
// added before stays where it is: holders that have it now are kept, up to the
// maximum, and the new copies fill up what is missing. Without that, adding the
// same files every night would move them every night. What the user asked to
// have on certain peers goes there, and holders of the root alone do not count.
func (c *Cluster) keepHolders(ctx context.Context, current api.Pin, added []peer.ID, options api.PinOptions) []peer.ID {
	most := options.ReplicationFactorMax
	if current.Revision == 0 || current.Mode != options.Mode || len(options.UserAllocations) > 0 || most < 1 {
		return slices.Clone(added)
	}
	var kept []peer.ID
	if slices.ContainsFunc(current.Allocations, func(id peer.ID) bool { return !slices.Contains(added, id) }) {
		status, err := c.Status(ctx, current.Cid, false)
		if err != nil {
			c.logger.Debug("holders of an earlier add not asked", "cid", current.Cid, "err", err)
		}
		for _, id := range current.Allocations {
			if slices.Contains(added, id) || status.PeerMap[id.String()].Status == api.StatusPinned {
				kept = append(kept, id)
			}
		}
	} else {
		kept = slices.Clone(current.Allocations)
	}
	for _, id := range added {
		if len(kept) < most && !slices.Contains(kept, id) {
			kept = append(kept, id)
		}
	}
	return kept[:min(len(kept), most)]
}

// inherit takes the options of an existing pin for a pin-update, and the
// replicas to start from.
func (c *Cluster) inherit(options api.PinOptions, current api.Pin) (api.PinOptions, []peer.ID, error) {
	if !options.PinUpdate.Defined() {
		return options, current.Allocations, nil
	}
	from, exists, err := c.state.Get(options.PinUpdate.Cid)
	if err != nil {
		return options, nil, err
	}
	if !exists {
		return options, nil, api.Errorf(api.CodeNotFound, "pin-update: %s is not part of the pinset", options.PinUpdate)
	}
	inherited := from.PinOptions
	inherited.PinUpdate = options.PinUpdate
	inherited.Metadata = maps.Clone(from.Metadata)
	inherited.UserAllocations = options.UserAllocations
	if options.Name != "" {
		inherited.Name = options.Name
	}
	if !options.ExpireAt.IsZero() {
		inherited.ExpireAt = options.ExpireAt
	}
	if len(options.Metadata) > 0 {
		inherited.Metadata = options.Metadata
	}
	if len(options.Origins) > 0 {
		inherited.Origins = options.Origins
	}
	have := current.Allocations
	if len(have) == 0 {
		have = from.Allocations // most of the blocks are there already
	}
	return inherited, have, nil
}

// complete fills in the defaults and checks what needs the cluster to check.
func (c *Cluster) complete(options *api.PinOptions, now time.Time) error {
	if options.Mode == "" {
		options.Mode = api.ModeRecursive
	}
	lo, hi := options.ReplicationFactorMin, options.ReplicationFactorMax
	switch {
	case lo == 0 && hi == 0:
		lo, hi = c.cfg.DefaultMin, c.cfg.DefaultMax
	case lo == 0 && hi == api.Everywhere:
		lo = api.Everywhere
	case lo == 0:
		lo = min(max(c.cfg.DefaultMin, 1), hi)
	case hi == 0 && lo == api.Everywhere:
		hi = api.Everywhere
	case hi == 0:
		hi = max(c.cfg.DefaultMax, lo)
	}
	if err := api.ValidateFactors(lo, hi); err != nil {
		return err
	}
	options.ReplicationFactorMin, options.ReplicationFactorMax = lo, hi
	if !options.ExpireAt.IsZero() && !options.ExpireAt.After(now) {
		return api.Errorf(api.CodeInvalid, "expire-at %s is in the past", options.ExpireAt.Format(time.RFC3339))
	}
	options.ExpireAt = options.ExpireAt.UTC().Truncate(time.Second)
	for _, id := range options.UserAllocations {
		if _, member, err := c.state.Member(id); err != nil {
			return err
		} else if !member {
			return api.Errorf(api.CodeInvalid, "user-allocations: %s is not a peer of this cluster; 'cluster-ctl peers ls' shows them", id)
		}
	}
	return nil
}

// decidePlacement is the leader's part of Allocate.
func (c *Cluster) decidePlacement(ctx context.Context, options api.PinOptions) (api.Placement, error) {
	if !c.log.IsLeader() {
		return api.Placement{}, notLeader()
	}
	if err := c.complete(&options, c.wall()); err != nil {
		return api.Placement{}, c.certain(ctx, err)
	}
	if options.ReplicationFactorMin == api.Everywhere {
		placement := api.Placement{Everywhere: true, Min: 1}
		err := c.settle(ctx, func(candidates []allocator.Candidate) error {
			for _, candidate := range candidates {
				if candidate.Usable {
					placement.Peers = append(placement.Peers, candidate.ID)
				}
			}
			if len(placement.Peers) == 0 {
				return api.Errorf(api.CodeNotEnoughPeers, "no peer can take blocks now; 'cluster-ctl peers ls' shows why")
			}
			return nil
		})
		return placement, err
	}
	// The root is not known yet, so a random one spreads the adds.
	decision, err := c.place(ctx, allocator.Request{Cid: randomCid(), Min: options.ReplicationFactorMin,
		Max: options.ReplicationFactorMax, Prefer: options.UserAllocations})
	return api.Placement{Peers: decision.Allocations, Min: options.ReplicationFactorMin}, err
}

var errNothingToDo = errors.New("nothing to do")
