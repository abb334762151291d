package main

import (
	"context"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"holdfast/api"
)

// statusInterval is how often systemd is told how the peer is.
const statusInterval = 10 * time.Second

// notifier tells systemd how a peer is. That it serves is "ready" to systemd:
// whether it can take writes depends on other machines, too, and is its status.
type notifier struct {
	ready     <-chan struct{} // closed when the peer serves
	readiness func(context.Context) api.Readiness
	alive     func(context.Context) error // asks the peer as a stranger would
	watchdog  time.Duration               // a peer that is silent for so long is killed; 0: none is
	send      func(state string) error
}

// run tells until ctx ends.
func (n notifier) run(ctx context.Context) error {
	if err := n.serve(ctx); err != nil {
		return err
	}
	return n.send(sd.SdNotifyStopping)
}

func (n notifier) serve(ctx context.Context) error {
	interval := statusInterval
	if n.watchdog > 0 {
		interval = min(interval, n.watchdog/4)
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	ready := n.ready
	for {
		if err := n.tell(ctx, ready == nil); err != nil {
			return err
		}
		select {
		case <-ready:
			ready = nil
			if err := n.send(sd.SdNotifyReady); err != nil {
				return err
			}
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tell sends the status, and feeds the watchdog if the peer answers.
func (n notifier) tell(ctx context.Context, served bool) error {
	status := "ready"
	if err := n.readiness(ctx).Err(); err != nil {
		status = err.Error()
	}
	if err := n.send("STATUS=" + status); err != nil || n.watchdog == 0 || !served || ctx.Err() != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, n.watchdog/4)
	defer cancel()
	if n.alive(bounded) != nil {
		return nil // once more before the watchdog's time is over, and then it is right
	}
	return n.send(sd.SdNotifyWatchdog)
}
