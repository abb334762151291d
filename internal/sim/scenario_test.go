package sim

import (
	"context"
	"errors"
	"slices"
	"time"

	"holdfast/api"
	"holdfast/cluster"
)

// three is a cluster of three, with the seed of the run.
var three = Options{Peers: 3}

// replicas are the options of a pin with so many copies.
func replicas(low, high int) api.PinOptions {
	return api.PinOptions{ReplicationFactorMin: low, ReplicationFactorMax: high}
}

// request pins with an id of its own, as a client that may have to repeat it.
func (c *Cluster) request(p *Peer, number int, id string, limit time.Duration) (api.PinResult, error) {
	var result api.PinResult
	err := c.Use(p, limit, func(ctx context.Context, via *cluster.Cluster) (err error) {
		result, err = via.Pin(ctx, api.PinRequest{Cid: Cid(number), RequestID: id, Options: api.PinOptions{Name: id, Origins: c.origins()}})
		return err
	})
	return result, err
}

// has says whether a peer's own pinset has a pin.
func (c *Cluster) has(p *Peer, number int) error {
	return c.Use(p, requestLimit, func(ctx context.Context, via *cluster.Cluster) error {
		_, err := via.Allocation(ctx, Cid(number))
		return err
	})
}

// others returns the peers that are none of these.
func (c *Cluster) others(not ...*Peer) []*Peer {
	return slices.DeleteFunc(slices.Clone(c.Peers()), func(p *Peer) bool { return slices.Contains(not, p) })
}

// status is what a peer is said to be doing with a pin.
func (c *Cluster) status(via, of *Peer, number int) api.PinInfoShort {
	var info api.GlobalPinInfo
	_ = c.Use(via, requestLimit, func(ctx context.Context, via *cluster.Cluster) (err error) {
		info, err = via.Status(ctx, Cid(number), false)
		return err
	})
	return info.PeerMap[of.ID.String()]
}

func (c *Cluster) awaitStatus(of *Peer, number int, want api.TrackerStatus) {
	c.t.Helper()
	c.until("status "+want.String(), func() error {
		if got := c.status(of, of, number); got.Status != want {
			return errors.New("it is " + got.Status.String() + " " + got.Error)
		}
		return nil
	})
}

// churn writes until snapshots must have been taken.
func (c *Cluster) churn(through *Peer, from int) {
	c.t.Helper()
	for number := from; number < from+60; number++ {
		c.Pin(through, number, api.PinOptions{})
	}
	time.Sleep(5 * time.Second) // snapshots are looked for every second or two
}
