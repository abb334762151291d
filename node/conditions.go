package node

import (
	"time"

	"holdfast/api"
)

// Conditions lists what is wrong with the node now.
func (n *Node) Conditions() []api.Condition {
	n.mu.Lock()
	o, failed := n.open, n.gcFailed
	n.mu.Unlock()
	if o == nil {
		return nil
	}
	out := o.damage.conditions(time.Now())
	if failed != nil {
		out = append(out, api.Condition{Name: api.AlertGC, Message: "garbage is not collected, so space is not given back: " + failed.Error()})
	}
	return out
}
