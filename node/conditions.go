package node

import (
	"time"

	"holdfast/api"
)

// Conditions lists what is wrong with the node now.
func (n *Node) Conditions() []api.Condition {
	n.mu.Lock()
	o := n.open
	n.mu.Unlock()
	if o == nil {
		return nil
	}
	return o.damage.conditions(time.Now())
}
