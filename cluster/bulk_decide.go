package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"holdfast/allocator"
	"holdfast/api"
	"holdfast/state"
)

// bulkDecision is the leader's part of one chunk: it reads all pins at once,
// decides, and has everything logged together. Lines whose pin was changed
// meanwhile are decided again.
type bulkDecision struct {
	c       *Cluster
	lines   []api.BulkLine
	results []api.BulkResult
	place   placeFunc
	logged  bool // some lines have their place in the log
}

// decideBulk is the leader's part of BulkChunk.
func (c *Cluster) decideBulk(ctx context.Context, lines []api.BulkLine) ([]api.BulkResult, error) {
	if !c.log.IsLeader() {
		return nil, notLeader()
	}
	d := &bulkDecision{c: c, lines: lines, results: make([]api.BulkResult, len(lines)), place: c.placeMany()}
	open := make([]int, len(lines))
	for i, line := range lines {
		open[i] = i
		d.results[i] = api.BulkResult{Line: line.Line, Cid: line.Cid}
	}
	// No two lines speak of one CID, so their order is free. In that of the keys
	// every peer reads and writes its database faster.
	slices.SortFunc(open, func(a, b int) int { return strings.Compare(lines[a].Cid.KeyString(), lines[b].Cid.KeyString()) })
	var err error
	for round := 0; round < bulkRounds && len(open) > 0 && err == nil; round++ {
		open, err = d.round(ctx, open)
	}
	for _, i := range open {
		if err == nil {
			err = d.inTurn(ctx, i)
		}
	}
	if err != nil && d.logged {
		err = unknown(err) // of some lines, whatever became of the others
	}
	if err != nil {
		return nil, err
	}
	return d.results, nil
}

// bulkRounds is how often lines are decided together. Those that lost against
// others each time then wait for their turn.
const bulkRounds = 8

// inTurn decides one line while other decisions about its pin wait.
func (d *bulkDecision) inTurn(ctx context.Context, i int) error {
	done, err := d.c.turns.take(ctx, d.lines[i].Cid.Cid)
	if err != nil {
		return api.Errorf(api.CodeUnavailable, "line %d waited for other changes of the same pin: %w", d.lines[i].Line, err)
	}
	defer done()
	open := []int{i}
	for range maxRedecisions {
		if open, err = d.round(ctx, open); err != nil || len(open) == 0 {
			return err
		}
	}
	d.results[i].Err = api.Errorf(api.CodeConflict, "others keep changing this pin; line %d was decided %d times in vain, try again", d.lines[i].Line, maxRedecisions)
	return nil
}

// round decides the open lines, and returns those that have to be decided again.
func (d *bulkDecision) round(ctx context.Context, open []int) (again []int, err error) {
	current, err := d.read(open)
	if err != nil {
		return nil, err
	}
	now := d.c.wall()
	var proposed, standing []int
	var commands [][]byte
	for k, i := range open {
		cmd, err := d.decide(ctx, d.lines[i], current[k], now)
		if err == nil {
			err = d.c.allowed(cmd)
		}
		switch {
		case errors.Is(err, errNothingToDo):
			d.results[i].Pin = current[k]
			standing = append(standing, i)
		case err != nil:
			d.results[i].Err = api.AsError(err)
		default:
			commands = append(commands, cmd.Encode())
			proposed = append(proposed, i)
		}
	}
	if len(commands) > 0 {
		again, err = d.propose(ctx, proposed, commands)
	} else if len(standing) > 0 {
		// What stands is an answer only of a peer that leads now.
		_, err = d.c.log.ReadIndex(ctx)
	}
	if err != nil {
		return nil, err
	}
	changed, err := d.confirm(standing)
	return append(again, changed...), err
}

// read returns the present pins of some lines.
func (d *bulkDecision) read(of []int) ([]api.Pin, error) {
	cids := make([]cid.Cid, len(of))
	for k, i := range of {
		cids[k] = d.lines[i].Cid.Cid
	}
	pins := make([]api.Pin, len(cids))
	return pins, d.c.state.GetMany(cids, pins)
}

// decide returns the command of a line. A pin that stands as the line wants it
// is left as it is (errNothingToDo), so that the same bulk can be sent again and
// again for nothing, however long ago its request ids were forgotten.
func (d *bulkDecision) decide(ctx context.Context, line api.BulkLine, current api.Pin, now time.Time) (command, error) {
	if line.Unpin {
		if line.Revision != 0 && line.Revision != current.Revision {
			return nil, errNothingToDo
		}
		return state.UnpinCommand{Cid: line.Cid.Cid, Expect: current.Revision, RequestID: line.RequestID, At: now}, nil
	}
	pin, err := d.plan(ctx, line, current, now)
	if err != nil {
		return nil, err
	}
	if current.Revision != 0 {
		asStored := pin
		if line.Import == nil {
			asStored.Timestamp = current.Timestamp
		}
		if samePin(asStored, current) {
			return nil, errNothingToDo
		}
	}
	return state.PinCommand{Pin: pin, Expect: current.Revision, RequestID: line.RequestID, At: now}, nil
}

func (d *bulkDecision) plan(ctx context.Context, line api.BulkLine, current api.Pin, now time.Time) (api.Pin, error) {
	if line.Import != nil {
		return d.c.planImport(ctx, line, current, now, d.place)
	}
	return d.c.plan(ctx, api.PinRequest{Cid: line.Cid, Options: line.Options, RequestID: line.RequestID}, current, now, d.place)
}

// propose logs commands, and returns the lines whose pin was changed before.
func (d *bulkDecision) propose(ctx context.Context, lines []int, commands [][]byte) (again []int, err error) {
	values, err := d.c.log.ProposeAll(ctx, commands)
	if err != nil {
		return nil, err
	}
	d.logged = true
	for k, i := range lines {
		result, ok := values[k].(*state.Result)
		switch {
		case !ok:
			return nil, api.Errorf(api.CodeInternal, "the log answered %T to a command", values[k])
		case result.Err != nil && errors.Is(result.Err, api.ErrConflict):
			again = append(again, i)
		case result.Err != nil:
			d.results[i].Err = result.Err
		default:
			if d.results[i].Pin, err = result.Pin(); err != nil {
				return nil, err
			}
			d.results[i].Index = result.Index
		}
	}
	return again, nil
}

// confirm answers the lines whose pins stood already, now that this peer is
// known to have led since it read them, and returns those that changed.
func (d *bulkDecision) confirm(standing []int) (changed []int, err error) {
	if len(standing) == 0 {
		return nil, nil
	}
	current, err := d.read(standing)
	if err != nil {
		return nil, err
	}
	for k, i := range standing {
		if current[k].Revision != d.results[i].Pin.Revision {
			d.results[i].Pin = api.Pin{}
			changed = append(changed, i)
			continue
		}
		d.results[i].Index = current[k].Revision
	}
	return changed, nil
}

// placeFunc asks the allocator who shall hold a pin.
type placeFunc func(context.Context, allocator.Request) (allocator.Decision, error)

// placeMany is place for many pins at one moment: the peers are looked at once,
// and only the first pin that finds too few waits for their reports.
func (c *Cluster) placeMany() placeFunc {
	candidates := c.candidates(nil)
	waited := false
	return func(ctx context.Context, req allocator.Request) (allocator.Decision, error) {
		req.Candidates = candidates
		decision, err := allocator.Place(req)
		if errors.Is(err, api.ErrNotEnoughPeers) && !waited {
			waited = true
			decision, err = c.place(ctx, req)
			candidates = c.candidates(nil)
			return decision, err
		}
		return decision, lack(err, candidates)
	}
}
