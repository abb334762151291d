package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/api"
)

// unreachableGrace is how long a wait bears with peers that do not answer,
// when it could not end well without them.
const unreachableGrace = 15 * time.Second

// WaitFor asks for the status of a CID every interval (0: a second), beginning
// at once, until it is target on limit peers, and returns the last status.
//
// Only the peers that have to do with the CID count; a limit over their number
// is that number, and 0 means all of them. The wait fails when too few peers
// are left that can still get there: those with pin_error or unpin_error in
// two answers in a row (the first may be older than the request that is waited
// for), those that cannot be reached after 15 seconds. When ctx ends first the
// error matches that of ctx.
func (c *Client) WaitFor(ctx context.Context, id api.Cid, target api.TrackerStatus, limit int, interval time.Duration) (api.GlobalPinInfo, error) {
	if interval <= 0 {
		interval = time.Second
	}
	var last api.GlobalPinInfo
	var silentSince time.Time
	failedBefore := false
	for {
		status, err := c.Status(ctx, id, false)
		if ctx.Err() != nil {
			return last, waitEnded(ctx, id, target, last)
		}
		if err != nil {
			return last, err
		}
		last = status
		v := judge(status, target, limit)
		switch {
		case v.reached:
			return status, nil
		case v.failed && failedBefore:
			return status, api.Errorf(api.CodeUnavailable, "%s cannot become %s: %s", id, target, strings.Join(v.reasons, "; "))
		case !v.silent:
			silentSince = time.Time{}
		case silentSince.IsZero():
			silentSince = time.Now()
		case time.Since(silentSince) > unreachableGrace:
			return status, api.Errorf(api.CodeUnavailable, "%s cannot become %s: %s", id, target, strings.Join(v.reasons, "; "))
		}
		failedBefore = v.failed
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return last, waitEnded(ctx, id, target, last)
		}
	}
}

func waitEnded(ctx context.Context, id api.Cid, target api.TrackerStatus, last api.GlobalPinInfo) error {
	var now []string
	for _, p := range last.PeerMap {
		now = append(now, p.PeerName+" "+p.Status.String())
	}
	slices.Sort(now)
	return api.Errorf(api.CodeUnavailable, "%s is not %s yet (%s): %w", id, target, strings.Join(now, ", "), errors.Join(context.Cause(ctx), ctx.Err()))
}

// verdict is what one status says about a wait.
type verdict struct {
	reached bool
	failed  bool     // and will stay so without help
	silent  bool     // too few peers answer
	reasons []string // what is wrong, by peer
}

func judge(status api.GlobalPinInfo, target api.TrackerStatus, limit int) verdict {
	var v verdict
	concerned, there, broken, silent := 0, 0, 0, 0
	for id, p := range status.PeerMap {
		if p.Status == api.StatusRemote {
			continue // others hold it
		}
		concerned++
		switch {
		case p.Status.Match(target):
			there++
		case p.Status == api.StatusClusterError:
			silent++
		case p.Status == api.StatusPinError || p.Status == api.StatusUnpinError:
			broken++
		default:
			continue
		}
		if !p.Status.Match(target) {
			v.reasons = append(v.reasons, fmt.Sprintf("%s (%s): %s: %s", p.PeerName, id, p.Status, p.Error))
		}
	}
	slices.Sort(v.reasons)
	need := concerned
	if limit > 0 {
		need = min(limit, concerned)
	}
	if concerned == 0 {
		// Nobody has anything to do with it: gone, if that was the wish.
		v.reached = target.Match(api.StatusUnpinned)
		return v
	}
	v.reached = there >= need
	v.failed = !v.reached && concerned-broken < need
	v.silent = !v.reached && concerned-broken-silent < need
	return v
}
