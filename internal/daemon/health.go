package daemon

import (
	"context"

	"holdfast/api"
)

// enter notes which stage the start has come to.
func (d *Daemon) enter(stage string) { d.stage.Store(&stage) }

// Readiness says whether this peer can take writes now, from its first moment
// on. Errors of a start are told by Run, which ends.
func (d *Daemon) Readiness(ctx context.Context) api.Readiness {
	if why := d.outside.Load(); why != nil {
		return api.NotReady(d.notInside()...)
	}
	select {
	case <-d.ready:
		return d.cluster.Readiness(ctx)
	default:
	}
	stage := "the folder is locked"
	if now := d.stage.Load(); now != nil {
		stage = *now
	}
	out := api.NotReady(api.Condition{Name: api.AlertStarting, Message: "this peer is starting: " + stage + "; wait"})
	out.Stage = stage
	return out
}

// notInside tells that this peer has no part in its cluster.
func (d *Daemon) notInside() []api.Condition {
	if why := d.outside.Load(); why != nil {
		return []api.Condition{{Name: api.AlertNotMember, Message: why.Message}}
	}
	return nil
}
