package daemon

import (
	"errors"
	"fmt"
	"path/filepath"

	"holdfast/api"
	"holdfast/state"
)

// openPinset opens the pinset. One whose database is damaged is made anew from
// this peer's snapshots and its log; if those do not reach so far, the log says
// so when it starts, and what to do.
func (d *Daemon) openPinset() (*state.Pinset, error) {
	dir := filepath.Join(d.opts.Dir, "state")
	open := func() (*state.Pinset, error) { return state.OpenKnowing(d.seams.FS, dir, d.seams.CommandVersion) }
	pinset, err := open()
	if !errors.Is(err, state.ErrDamaged) {
		if err != nil && api.CodeOf(err) != api.CodeInvalid { // that is one of a later version
			err = fmt.Errorf("%w; if the disk can be read, move %s away, and it is made anew from the snapshots and the log; if they do not reach so far, restore the folder or join again (docs/backup.md)", err, dir)
		}
		return pinset, err
	}
	kept, problem := state.StartOver(d.seams.FS, dir)
	if problem != nil {
		return nil, errors.Join(err, problem)
	}
	d.logger.Error("the pinset on this disk is damaged, and is made anew from the snapshots and the log; look at the disk. What was there is kept, and can be removed",
		"folder", kept, "error", err)
	d.remains = kept
	return open()
}
