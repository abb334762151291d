package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/api"
)

// maxConditions is how many conditions a report carries at most: a peer with
// more than that needs help, not a longer list.
const maxConditions = 64

// conditions remembers since when this peer is in which condition.
type conditions struct {
	own  func() []api.Condition // of the use cases; nil: there are none
	tell func() []api.Condition // of the other parts; nil: there are none

	mu    sync.Mutex
	since map[[2]string]time.Time // by name and subject
}

// now returns what is wrong with this peer now, by name and subject, and since
// when. What goes away and comes back begins anew.
func (c *conditions) now(wall time.Time) []api.Condition {
	var found []api.Condition
	for _, tell := range []func() []api.Condition{c.own, c.tell} {
		if tell != nil {
			found = append(found, tell()...)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	since := make(map[[2]string]time.Time, len(found))
	for i := range found {
		key := [2]string{found[i].Name, found[i].Subject}
		began, known := c.since[key]
		switch {
		case !found[i].Since.IsZero(): // the part knows better
			began = found[i].Since.UTC()
		case !known:
			began = wall.UTC()
		}
		since[key], found[i].Since = began, began
	}
	c.since = since
	slices.SortStableFunc(found, func(a, b api.Condition) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Subject, b.Subject))
	})
	if more := len(found) - maxConditions; more > 0 {
		found = found[:maxConditions]
		last := &found[maxConditions-1]
		last.Message = fmt.Sprintf("%s (and %d more that are not listed)", last.Message, more)
	}
	return found
}
