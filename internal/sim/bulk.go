package sim

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"

	"holdfast/api"
)

// bulkPause is the longest time that a client leaves between two lines: some
// lines of a bulk write are decided together, others are not.
const bulkPause = 20 * time.Millisecond

// bulk makes an operation a line of a bulk write, together with others for
// other keys, and has them carried out, with repeats. To the history each line
// is an operation of its own, which begins and ends within the bulk write.
func (w *Workload) bulk(c *Cluster, first *operation, dice *rand.Rand) {
	var open []*operation
	for i, key := range dice.Perm(w.Keys)[:1+dice.IntN(w.Keys)] {
		o := &operation{client: first.client, key: key, id: fmt.Sprintf("%s.%d", first.id, i), kind: opUnpin, line: i + 1}
		if dice.IntN(3) > 0 {
			o.pins("b"+o.id, dice)
		}
		c.history.begin(o)
		open = append(open, o)
	}
	ambiguous := map[*operation]bool{}
	for attempt := range attempts {
		p := c.Peers()[dice.IntN(len(c.Peers()))]
		refused, err := c.performBulk(p, open, w.PinOptions, dice)
		var again []*operation
		for _, o := range open {
			if o.known {
				continue
			}
			again = append(again, o)
			switch why := refused[o]; {
			case why != nil:
				ambiguous[o] = ambiguous[o] || !harmless(why)
			case !errors.Is(err, errNobody):
				ambiguous[o] = true // it has no result
			}
		}
		open = again
		if len(open) == 0 || attempt > 0 && dice.IntN(4) == 0 {
			break
		}
		time.Sleep(time.Duration(dice.Int64N(int64(time.Second))))
	}
	for _, o := range open {
		if !ambiguous[o] {
			c.history.drop(o)
		}
	}
}

// performBulk asks one peer once, records the lines that were carried out, and
// returns why others were not.
func (c *Cluster) performBulk(p *Peer, ops []*operation, options api.PinOptions, dice *rand.Rand) (refused map[*operation]error, err error) {
	if !p.up() {
		return nil, errNobody
	}
	refused = map[*operation]error{}
	pauses := make([]time.Duration, len(ops))
	for i := range pauses {
		pauses[i] = max(0, time.Duration(dice.Int64N(int64(2*bulkPause)))-bulkPause)
	}
	err = c.use(p, requestLimit, func(ctx context.Context, inc *incarnation) error {
		next := 0
		for result := range inc.daemon.Cluster().Bulk(ctx, lines(ops, pauses, options)) {
			if inc.crashed() {
				return nil // nobody hears the rest
			}
			if next == len(ops) || result.Line != ops[next].line || result.Cid != Cid(ops[next].key) {
				c.fail("INV-ANSWER", "result %d of a bulk write is about line %d, %s", next, result.Line, result.Cid)
				return nil
			}
			if why := c.result(ops[next], result); why != nil {
				refused[ops[next]] = why
			}
			next++
		}
		if next < len(ops) && ctx.Err() == nil && !inc.crashed() {
			c.fail("INV-ANSWER", "a bulk write of %d lines ended after %d results", len(ops), next)
		}
		return nil
	})
	return refused, err
}

// result records the result of a line, or returns why there is none.
func (c *Cluster) result(o *operation, result api.BulkResult) error {
	switch {
	case o.kind == opPin && result.Err == nil:
		c.acknowledged(o, result.Pin, result.Index)
		c.history.end(o, "")
	case o.kind == opUnpin && result.Err == nil:
		c.history.wrote(result.Index)
		c.history.end(o, result.Pin.Name)
	case o.kind == opUnpin && errors.Is(result.Err, api.ErrNotFound):
		c.history.end(o, "")
	default:
		return result.Err
	}
	return nil
}

// lines are the operations as lines of a bulk write, with pauses before them.
func lines(ops []*operation, pauses []time.Duration, options api.PinOptions) iter.Seq[api.BulkLine] {
	return func(yield func(api.BulkLine) bool) {
		for i, o := range ops {
			time.Sleep(pauses[i])
			line := api.BulkLine{Line: o.line, Cid: Cid(o.key), RequestID: o.id, Unpin: o.kind == opUnpin}
			if !line.Unpin {
				line.Options = o.options(options)
			}
			if !yield(line) {
				return
			}
		}
	}
}
