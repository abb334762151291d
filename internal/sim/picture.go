package sim

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/daemon"
)

// picture tells how every peer stands.
func (c *Cluster) picture() string {
	var out strings.Builder
	for _, p := range c.Peers() {
		inc := p.now.Load()
		switch {
		case inc == nil:
			fmt.Fprintf(&out, "%s has no process\n", p.Name)
		case !inc.ready():
			fmt.Fprintf(&out, "%s is not ready\n", p.Name)
		default:
			s := inc.daemon.Log().Stats()
			fmt.Fprintf(&out, "%s %s: removed %v, %s in term %d, log up to %d, committed %d, applied %d, members", p.Name, p.ID, p.removed, s.State, s.Term, s.LastIndex, s.CommitIndex, s.AppliedIndex)
			for _, m := range inc.daemon.Log().Members() {
				fmt.Fprintf(&out, " %s:%v", c.ByID(m.ID).Name, m.Voter)
			}
			out.WriteString("\n")
		}
	}
	return out.String()
}

// newLogger keeps the last lines, or shows all if SIM_LOG names a level.
func (c *Cluster) newLogger() *slog.Logger {
	if level := os.Getenv("SIM_LOG"); level != "" {
		return daemon.NewLogger(level, "text", testWriter{c.t})
	}
	return daemon.NewLogger("debug", "text", &c.tail)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// tail remembers the last lines that were written to it.
type tail struct {
	mu    sync.Mutex
	lines [400]string
	next  int
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines[t.next%len(t.lines)] = string(p)
	t.next++
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out strings.Builder
	for i := range t.lines {
		out.WriteString(t.lines[(t.next+i)%len(t.lines)])
	}
	return out.String()
}
