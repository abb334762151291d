//go:build e2e

package e2e

import (
	"testing"
	"time"
)

// A peer that was dead for a while takes part again soon after its start,
// however long the others tried to reach it in vain.
func TestReturnAfterAWhile(t *testing.T) {
	c := newCluster(t, 3, nil)
	p := c.leader()
	p.kill()
	pause(t.Context(), 10*time.Second)
	p.startReady()
	c.waitWhole()
}
