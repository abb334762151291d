package daemon

import (
	"strings"
	"testing"

	"holdfast/api"
)

// From its first moment on a peer says what it waits for; one that was removed
// says that, and why, also among its alerts.
func TestReadinessBeforeAndOutside(t *testing.T) {
	d := &Daemon{ready: make(chan struct{})}
	if got := d.Readiness(t.Context()); got.Ready || got.Stage == "" || got.Reasons[0].Name != api.AlertStarting {
		t.Errorf("a peer that does not even run is %+v", got)
	}
	d.enter("the pinset opens")
	if got := d.Readiness(t.Context()); got.Ready || got.Stage != "the pinset opens" || !strings.Contains(got.Reasons[0].Message, "the pinset opens") {
		t.Errorf("a peer that starts is %+v", got)
	}
	d.outside.Store(d.notMember("it was removed"))
	got := d.Readiness(t.Context())
	if got.Ready || len(got.Reasons) != 1 || got.Reasons[0].Name != api.AlertNotMember || !strings.Contains(got.Err().Error(), "it was removed") {
		t.Errorf("a removed peer is %+v", got)
	}
	if got := d.notInside(); len(got) != 1 || got[0].Name != api.AlertNotMember {
		t.Errorf("the alert of a removed peer is %+v", got)
	}
}
