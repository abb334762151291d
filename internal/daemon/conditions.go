package daemon

import "holdfast/api"

// conditions lists what is wrong with this peer now, as its parts tell it.
func (d *Daemon) conditions() []api.Condition {
	var found []api.Condition
	for _, tell := range d.tell {
		found = append(found, tell()...)
	}
	return found
}
