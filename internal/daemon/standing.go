package daemon

import (
	"context"
	"fmt"
	"time"

	"holdfast/api"
)

// standingInterval is how often a peer without a leader asks whether it is a
// member still.
const standingInterval = 2 * time.Second

// watchStanding finds out why nobody listens to this peer, until ctx ends. A
// peer that was removed while it was away does not hear of that from the log: no
// member speaks to it any more. So while it has no leader it asks those that it
// knows, and says wherever it is asked what they answered. It does not end, and
// its folder stays as it is: the word of one that was recovered by mistake, in
// a cluster whose majority lives, must not be what ends the majority's peers.
func (d *Daemon) watchStanding(ctx context.Context) error {
	for sleep(ctx, standingInterval) {
		if _, led := d.log.Leader(); led {
			d.setOutside(nil)
			continue
		}
		if why, answered := d.askStanding(ctx); answered {
			d.setOutside(why)
		}
	}
	return nil
}

// setOutside stores why this peer has no part in its cluster, and tells the log
// when that has changed.
func (d *Daemon) setOutside(why *api.Error) {
	was := d.outside.Swap(why)
	switch {
	case was == nil && why != nil:
		d.logger.Error("this peer takes no part in its cluster and refuses all requests", "err", why)
	case was != nil && why == nil:
		d.logger.Info("this peer takes part in its cluster again")
	}
}

// askStanding asks all members that this peer knows. One that says yes counts
// more than those that say no: those may have gone on without the others. The
// error is why this peer is no member, nil: it is one.
func (d *Daemon) askStanding(ctx context.Context) (why *api.Error, answered bool) {
	known, err := d.trust.known()
	if err != nil {
		d.logger.Error("members not read", "err", err)
		return nil, false
	}
	self, _, err := d.state.Member(d.ID())
	if err != nil {
		d.logger.Error("members not read", "err", err)
		return nil, false
	}
	type answer struct {
		from     api.Member
		standing api.Standing
		err      error
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	answers, asked := make(chan answer, len(known)), 0
	for _, m := range known {
		if m.ID == d.ID() {
			continue
		}
		asked++
		go func() {
			standing, err := d.remote.Standing(ctx, m.ID)
			answers <- answer{m, standing, err}
		}()
	}
	member := false
	for range asked {
		a := <-answers
		switch {
		case a.err != nil: // it is away, or has no majority to ask
		case a.standing.Member:
			member, answered = true, true
		case self.JoinedAt.Before(a.standing.Recovered):
			why, answered = d.notMember(fmt.Sprintf("it was removed by 'cluster-service recover' on %s (%s), which became the only member at %s",
				a.from.Name, a.from.ID, a.standing.Recovered.Format(time.RFC3339))), true
		case why == nil:
			why, answered = d.notMember(fmt.Sprintf("it was removed while it was away ('cluster-ctl peers rm'), says %s (%s)", a.from.Name, a.from.ID)), true
		}
	}
	if member {
		why = nil
	}
	return why, answered
}

// notMember says why this peer is no member, and what to do.
func (d *Daemon) notMember(reason string) *api.Error {
	return api.Errorf(api.CodeUnavailable, "this peer is not a member of its cluster any more: %s; %s", reason, joinAgain(d.opts.Dir))
}
