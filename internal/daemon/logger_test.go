package daemon

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What raft says ten times a second reaches the operator now and then, one
// level down; what it says once is not lost.
func TestRaftLoggerIsQuieter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		logger := raftLogger(NewLogger("info", "text", &out))
		for range 600 {
			logger.Error("failed to heartbeat to", "peer", "a")
			time.Sleep(100 * time.Millisecond)
		}
		logger.Error("something else")
		logger.Info("chatter")
		text := out.String()
		if n := strings.Count(text, "failed to heartbeat"); n != 2 {
			t.Errorf("told %d times in a minute", n)
		}
		if !strings.Contains(text, "something else") || !strings.Contains(text, "level=WARN") || strings.Contains(text, "ERROR") || strings.Contains(text, "chatter") {
			t.Errorf("got %s", text)
		}
	})
}
