package daemon

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/errors/oserror"

	"holdfast/api"
)

// damaged tells of what this peer keeps of the cluster, and can do without for
// now, that is not on its disk as it was written. A log that is damaged ends the
// peer with the reason.
func (d *Daemon) damaged() []api.Condition {
	var found []api.Condition
	if d.remains != "" {
		if _, err := d.seams.FS.Stat(d.remains); !oserror.IsNotExist(err) {
			found = append(found, api.Condition{Name: api.AlertPinset, Message: fmt.Sprintf(
				"the pinset on this peer's disk was damaged, and was made anew from the snapshots and the log when the peer started: look at the disk, and replace it if that happens again. What was there is kept in %s; remove that when it is not needed", d.remains)})
		}
	}
	snapshots := d.log.Damaged()
	for _, path := range slices.Sorted(maps.Keys(snapshots)) {
		found = append(found, api.Condition{Name: api.AlertSnapshot, Subject: path, Message: fmt.Sprintf(
			"a snapshot on this peer's disk is damaged, and others serve: look at the disk, and replace it if that happens again. It is removed when two newer ones were made: %v", snapshots[path])})
	}
	return found
}
