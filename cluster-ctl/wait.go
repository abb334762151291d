package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"holdfast/api"
)

// The status is asked for every waitInterval. Without --wait a command gives
// the peers waitSettle to get done, because a status that is about to change
// helps nobody.
const (
	waitInterval = 200 * time.Millisecond
	waitSettle   = time.Second
)

func waitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "no-status", Aliases: []string{"ns"}, Usage: "show the pin and no status"},
		&cli.BoolFlag{Name: "wait", Aliases: []string{"w"}, Usage: "return when the peers have done it"},
		&cli.IntFlag{Name: "wait-limit", Aliases: []string{"wl"}, Usage: "wait for this `NUMBER` of peers (implies --wait; 0: the pin's minimum, for rm all)"},
		&cli.DurationFlag{Name: "wait-timeout", Aliases: []string{"wt"}, Usage: "how much `TIME` to wait (implies --wait; 0: for ever)"},
	}
}

// waiting is what a user wants to see after a change.
type waiting struct {
	target  api.TrackerStatus
	wait    bool
	status  bool // show the status at the end; false: the pin
	limit   int  // peers that must reach the target; 0: the pin's minimum
	timeout time.Duration
}

func parseWait(c *cli.Context, target api.TrackerStatus) (waiting, error) {
	w := waiting{target: target, wait: c.Bool("wait") || c.IsSet("wait-limit") || c.IsSet("wait-timeout"),
		status: !c.Bool("no-status"), limit: c.Int("wait-limit"), timeout: c.Duration("wait-timeout")}
	if w.limit < 0 {
		return w, usagef("--wait-limit %d is not a number of peers", w.limit)
	}
	if w.timeout < 0 {
		return w, usagef("--wait-timeout %s is negative", w.timeout)
	}
	return w, nil
}

// change makes a change of the pinset, waits as the user asked until the pin has
// a status, and shows the outcome.
func (p *program) change(c *cli.Context, until api.TrackerStatus, do func() (api.PinResult, error)) error {
	wait, err := parseWait(c, until)
	if err != nil {
		return err
	}
	result, err := do()
	if err != nil {
		return err
	}
	return p.afterChange(c.Context, result.Pin, wait)
}

// afterChange waits as the user asked, and shows the outcome of a change.
func (p *program) afterChange(ctx context.Context, pin api.Pin, w waiting) error {
	if !w.wait && !w.status {
		return show(p, pin, textPin)
	}
	info, err := p.waitFor(ctx, pin, w)
	if w.status && info.Cid.Defined() {
		// Also when the wait failed: the status says why.
		return errors.Join(show(p, info, textStatus), err)
	}
	if err != nil {
		return err
	}
	return show(p, pin, textPin)
}

// waitFor returns the last status that it saw: when the pin has reached the
// target on enough peers, cannot reach it, or the time is over. Without w.wait
// it returns soon in any case, and how far the peers got is no error.
func (p *program) waitFor(ctx context.Context, pin api.Pin, w waiting) (api.GlobalPinInfo, error) {
	limit := w.limit
	if limit == 0 && w.target == api.StatusPinned {
		limit = pin.ReplicationFactorMin // of a pin on every peer it is -1: all
	}
	timeout := w.timeout
	if !w.wait {
		timeout = waitSettle
	}
	waitCtx, cancel := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		waitCtx, cancel = context.WithTimeout(ctx, timeout)
	}
	defer cancel()
	info, err := p.cluster.WaitFor(waitCtx, pin.Cid, w.target, limit, waitInterval)
	switch {
	case err == nil:
		return info, nil
	case !w.wait && ctx.Err() == nil:
		return p.cluster.Status(ctx, pin.Cid, false)
	case waitCtx.Err() != nil && ctx.Err() == nil:
		return info, &waitTimeoutError{fmt.Sprintf("%v; it goes on without you", err)}
	}
	return info, err
}
