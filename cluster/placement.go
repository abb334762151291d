package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"

	"holdfast/allocator"
	"holdfast/api"
	"holdfast/state"
)

// candidates returns every member as the allocator sees it. Those in excluded
// are neither usable nor holders.
func (c *Cluster) candidates(excluded map[peer.ID]bool) []allocator.Candidate {
	out, _ := c.look(excluded)
	return out
}

// look returns the candidates, and whether it will soon be known better who can
// take a replica. Both are from one moment: a report that came between two looks
// would make a refusal of what the first one saw look final.
func (c *Cluster) look(excluded map[peer.ID]bool) (candidates []allocator.Candidate, undecided bool) {
	members := c.membership.Members()
	view := c.peers.View()
	out := make([]allocator.Candidate, 0, len(members))
	for _, member := range members {
		candidate := allocator.Candidate{ID: member.ID}
		i := slices.IndexFunc(view, func(v api.PeerView) bool { return v.Report.Peer == member.ID })
		undecided = undecided || i < 0 || unsettled(view[i])
		if i >= 0 && !excluded[member.ID] {
			v := view[i]
			candidate.Free = v.Report.FreeBytes
			candidate.Usable = v.State == api.PeerUp && v.Report.NodeError == "" && v.Report.FreeBytes > 0
			// A peer that restarts keeps its replicas: nothing moves for a short absence.
			candidate.Live = v.State != api.PeerDown || time.Since(v.Since) < c.cfg.BelowMaxGrace
			candidate.Tags = v.Report.Tags
			candidate.Why = refusal(v)
		}
		out = append(out, candidate)
	}
	return out, undecided
}

// unsettled says that a peer which cannot be given replicas now may be found up
// within seconds: right after a start or an election little is known. See
// docs/design/0010-the-first-seconds.md.
func unsettled(v api.PeerView) bool {
	switch v.State {
	case api.PeerUnknown: // this leader has not taken up its post
		return true
	case api.PeerSuspect: // not heard enough of; or its node opens
		return v.Report.NodeError == "" || time.Since(v.Since) < nodeOpens
	case api.PeerDown: // it is back, and has to prove itself
		return v.Silent < reportWait && v.Report.NodeError == ""
	}
	return false
}

// refusal says why a peer is not given new replicas, if it is not.
func refusal(v api.PeerView) string {
	switch {
	case v.Report.NodeError != "":
		return "its IPFS node does not work: " + v.Report.NodeError
	case v.State != api.PeerUp:
		return "it is " + string(v.State)
	case v.Report.FreeBytes == 0:
		return noSpace
	}
	return ""
}

const noSpace = "it has no free space"

// lack gives a refusal for want of peers the code no_space when space is all
// that the peers lack.
func lack(err error, candidates []allocator.Candidate) error {
	if !errors.Is(err, api.ErrNotEnoughPeers) {
		return err
	}
	full := 0
	for _, candidate := range candidates {
		if candidate.Why == noSpace {
			full++
		} else if !candidate.Usable {
			return err
		}
	}
	if full == 0 {
		return err
	}
	return api.Errorf(api.CodeNoSpace, "%w; free space on the full peers ('cluster-ctl ipfs gc'), or add peers", err)
}

// place asks the allocator.
func (c *Cluster) place(ctx context.Context, req allocator.Request) (decision allocator.Decision, err error) {
	err = c.settle(ctx, func(candidates []allocator.Candidate) error {
		req.Candidates = candidates
		decision, err = allocator.Place(req)
		return lack(err, candidates)
	})
	return decision, err
}

// settle makes a decision about the candidates. Just after a start or an
// election it waits for the reports that are to come rather than refuse for
// want of peers.
func (c *Cluster) settle(ctx context.Context, decide func([]allocator.Candidate) error) error {
	var enough <-chan time.Time // made for who has to wait
	for {
		changed := c.peers.Changed()
		candidates, undecided := c.look(nil)
		err := decide(candidates)
		if !errors.Is(err, api.ErrNotEnoughPeers) || !undecided {
			return err
		}
		if enough == nil {
			enough = time.After(reportWait)
		}
		select {
		case <-changed:
		case <-enough:
			return err
		case <-ctx.Done():
			return err
		}
	}
}

// replace decides new replicas for a pin some of whose holders are lost, and
// returns the command, or errNothingToDo.
func (c *Cluster) replace(_ context.Context, pin api.Pin, lost map[peer.ID]bool) (command, error) {
	decision, err := allocator.Place(allocator.Request{Cid: pin.Cid.Cid, Min: pin.ReplicationFactorMin,
		Max: pin.ReplicationFactorMax, Have: pin.Allocations, Candidates: c.candidates(lost)})
	if err != nil {
		return nil, err
	}
	if len(decision.Added) == 0 && len(decision.Dropped) == 0 {
		return nil, errNothingToDo
	}
	expect := pin.Revision
	pin.Allocations = decision.Allocations
	return state.PinCommand{Pin: pin, Expect: expect, RequestID: NewRequestID(), At: c.wall()}, nil
}

// randomCid stands for a root that is not known yet.
func randomCid() cid.Cid {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails (crypto/rand)
	digest, err := multihash.Encode(seed[:], multihash.SHA2_256)
	if err != nil {
		return cid.Undef // cannot happen: the length fits the code
	}
	return cid.NewCidV1(cid.Raw, digest)
}
