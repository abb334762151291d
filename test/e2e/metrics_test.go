//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// metrics are the values that a peer shows, by name and labels.
func (p *testPeer) metrics(ctx context.Context) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", p.ports.rest), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s: %w", resp.Status, body, err)
	}
	out := map[string]float64{}
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		if out[line[:at]], err = strconv.ParseFloat(strings.TrimSpace(line[at:]), 64); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
	}
	return out, nil
}

// until waits until a peer's metric has at least a value.
func (p *testPeer) until(metric string, least float64) {
	p.t.Helper()
	eventually(p.t, time.Minute, p.name+" has "+metric, func(ctx context.Context) error {
		values, err := p.metrics(ctx)
		if err == nil && values[metric] < least {
			err = fmt.Errorf("it is %v, and not %v", values[metric], least)
		}
		return err
	})
}

// Metrics of three real peers follow a pin that is fetched, and the death of the leader.
func TestMetrics(t *testing.T) {
	c := newCluster(t, 3, nil)
	leader := c.leader()
	var others []*testPeer
	for _, p := range c.peers {
		if p != leader {
			others = append(others, p)
		}
	}
	before, err := others[0].metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.base, "file")
	if err := os.WriteFile(file, bytes.Repeat([]byte("metrics"), 1<<17), 0o600); err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(leader.mustCtl(time.Minute, "add", "-Q", "--replication", "1", file))
	// All are to have it now, so that those who have not fetch it from who has.
	leader.mustCtl(time.Minute, "pin", "add", "--replication", "-1", "--wait", root)
	fetched := 0.0
	for _, p := range c.peers {
		p.until(`holdfast_tracker_pins{status="pinned"}`, 1)
		p.until("holdfast_node_connected_nodes", 2)
		values, err := p.metrics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fetched += values["holdfast_node_fetched_bytes_total"]
		if pins, size := values["holdfast_pinset_everywhere_pins"], values["holdfast_node_repository_bytes"]; pins != 1 || size <= 0 {
			t.Errorf("%s shows %v pins that everybody holds, and a repository of %v bytes", p.name, pins, size)
		}
	}
	if least := float64(2 * len("metrics") << 17); fetched < least {
		t.Errorf("two peers fetched %v bytes, and not %v", fetched, least)
	}
	leader.kill()
	for _, p := range others {
		p.until("holdfast_raft_term", before["holdfast_raft_term"]+1)
		p.until("holdfast_raft_leader_known", 1)
	}
	c.leader()
	values, err := others[0].metrics(t.Context())
	if err != nil || values["holdfast_raft_leader_changes_total"] <= before["holdfast_raft_leader_changes_total"] {
		t.Errorf("after another leader came there were %v changes, %v before, %v", values["holdfast_raft_leader_changes_total"], before["holdfast_raft_leader_changes_total"], err)
	}
}
