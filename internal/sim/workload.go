package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"holdfast/api"
	"holdfast/cluster"
)

// requestLimit is a client's patience with one attempt.
const requestLimit = 15 * time.Second

// attempts is how often a client repeats a request whose outcome it does not
// know.
const attempts = 4

// Workload lets clients work through random peers until stop is closed, or
// until each has done its share.
type Workload struct {
	Clients, Keys, Each int
	Think               time.Duration // longest pause between requests
	PinOptions          api.PinOptions

	running sync.WaitGroup
	stop    chan struct{}
	cluster *Cluster
}

// Begin starts the clients.
func (w *Workload) Begin(c *Cluster) {
	w.stop = make(chan struct{})
	w.cluster, c.working = c, w
	w.PinOptions.Origins = c.origins()
	for number := range w.Clients {
		dice := c.dice()
		w.running.Go(func() { w.client(c, number, dice) })
	}
}

// End stops the clients and waits for them.
func (w *Workload) End() {
	close(w.stop)
	w.Wait()
}

// Wait waits until all clients have done their share.
func (w *Workload) Wait() {
	w.running.Wait()
	w.cluster.working = nil
}

func (w *Workload) client(c *Cluster, number int, dice *rand.Rand) {
	for n := range w.Each {
		select {
		case <-w.stop:
			return
		case <-time.After(time.Duration(dice.Int64N(int64(w.Think)))):
		}
		o := &operation{client: number, key: dice.IntN(w.Keys), id: fmt.Sprintf("%d-%d", number, n)}
		switch roll := dice.IntN(10); {
		case roll < 3:
			o.pins(fmt.Sprintf("c%d.%d", number, n), dice)
		case roll < 5:
			o.kind = opUnpin
		case roll < 6:
			w.bulk(c, o, dice)
			continue
		default:
			o.kind = opGet
		}
		w.run(c, o, dice)
	}
}

// pins makes the operation a pin of a name.
func (o *operation) pins(name string, dice *rand.Rand) {
	o.kind, o.name = opPin, name
	o.max = dice.IntN(4) // 0: the default
	o.min = 1 + dice.IntN(max(1, o.max))
}

// options are those of the operation's pin.
func (o *operation) options(common api.PinOptions) api.PinOptions {
	common.Name = o.name
	if o.max > 0 {
		common.ReplicationFactorMin, common.ReplicationFactorMax = o.min, o.max
	}
	return common
}

// run carries an operation out, with repeats, and records it.
func (w *Workload) run(c *Cluster, o *operation, dice *rand.Rand) {
	c.history.begin(o)
	ambiguous := false
	for attempt := range attempts {
		p := c.Peers()[dice.IntN(len(c.Peers()))]
		seen, err := c.perform(p, o, w.PinOptions)
		if err == nil {
			c.history.end(o, seen)
			return
		}
		if !errors.Is(err, errNobody) {
			ambiguous = ambiguous || !harmless(err)
		}
		// Some clients give up.
		if o.kind == opGet || attempt > 0 && dice.IntN(4) == 0 {
			break
		}
		time.Sleep(time.Duration(dice.Int64N(int64(time.Second))))
	}
	if !ambiguous {
		c.history.drop(o)
	}
}

var errNobody = errors.New("nobody to ask")

// harmless says that a request which ended so had no effect and will have none.
func harmless(err error) bool {
	switch api.CodeOf(err) {
	case api.CodeNoLeader, api.CodeNotEnoughPeers, api.CodeConflict, api.CodeInvalid, api.CodeForbidden:
		return true
	}
	return false
}

// acknowledged looks at the answer to a pin.
func (c *Cluster) acknowledged(o *operation, pin api.Pin, index uint64) {
	if pin.Name != o.name || index == 0 {
		c.fail("INV-ANSWER", "%v was answered with %q at index %d", o, pin.Name, index)
	}
	c.history.wrote(index)
}

// perform asks one peer once.
func (c *Cluster) perform(p *Peer, o *operation, options api.PinOptions) (seen string, err error) {
	if !p.up() {
		return "", errNobody
	}
	err = c.Use(p, requestLimit, func(ctx context.Context, via *cluster.Cluster) error {
		switch o.kind {
		case opPin:
			result, err := via.Pin(ctx, api.PinRequest{Cid: Cid(o.key), Options: o.options(options), RequestID: o.id})
			if err == nil {
				c.acknowledged(o, result.Pin, result.Index)
			}
			return err
		case opUnpin:
			result, err := via.Unpin(ctx, api.UnpinRequest{Cid: Cid(o.key), RequestID: o.id})
			seen = result.Pin.Name
			if err == nil {
				c.history.wrote(result.Index)
			}
			if errors.Is(err, api.ErrNotFound) {
				return nil
			}
			return err
		}
		if err := via.Barrier(ctx); err != nil {
			return err
		}
		pin, err := via.Allocation(ctx, Cid(o.key))
		seen = pin.Name
		if errors.Is(err, api.ErrNotFound) {
			return nil
		}
		return err
	})
	return seen, err
}
