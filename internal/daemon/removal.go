package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"
)

// watchRemoval ends the peer when the cluster removes it: it would go on for
// ever without a leader, and say nothing of why. The folder remembers it.
func (d *Daemon) watchRemoval(ctx context.Context) error {
	member := false
	for {
		changed := d.state.Changed()
		_, now, err := d.state.Member(d.ID())
		if err != nil {
			return err
		}
		if member && !now {
			if d.leaving.Load() {
				<-ctx.Done() // leave does the rest
				return nil
			}
			return errors.Join(errRemoved(d.opts.Dir), d.noteRemoval())
		}
		if now && !member {
			if err := d.noteMember(); err != nil {
				return err
			}
		}
		member = now
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// noteMember notes that this peer has become a member: that the founder's cluster
// is there, and whether there are settings.
func (d *Daemon) noteMember() error {
	info := d.opts.Cluster
	if d.opts.Seams.simulated() {
		return nil
	}
	_, err := os.Stat(filepath.Join(d.opts.Dir, ConfigFile))
	if info.Founded == info.Founder && info.Settings == (err == nil) {
		return nil
	}
	info.Founded, info.Settings = info.Founder, err == nil
	return info.Save(d.opts.Dir)
}

// noteRemoval has the folder remember that its peer is no member any more.
func (d *Daemon) noteRemoval() error {
	if d.opts.Seams.simulated() {
		return nil
	}
	info := d.opts.Cluster
	info.Founded, info.Removed = info.Founder, true
	return info.Save(d.opts.Dir)
}

// leaveTimeout is how long a shutdown may take to leave the cluster first.
const leaveTimeout = 15 * time.Second

// leave takes the peer out of the cluster before it stops, where it is told to
// and the others can do without it. It stops in any case.
func (d *Daemon) leave() error {
	if !d.opts.Config.LeaveOnShutdown {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	d.leaving.Store(true)
	err := d.cluster.Leave(ctx)
	if err != nil {
		// The answer may have been lost, and not the deed.
		if _, member, _ := d.state.Member(d.ID()); member {
			d.leaving.Store(false)
			d.logger.Warn("this peer stays a member of its cluster", "err", err)
			return nil
		}
	}
	d.logger.Info("this peer has left its cluster", "to join again", "move the folder away and run 'cluster-service join TOKEN'")
	return d.noteRemoval()
}
