//go:build e2e

package e2e

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/api"
)

// Backups that fail on one peer are seen on every peer, without a look at logs.
func TestFailingBackupIsSeen(t *testing.T) {
	c := newCluster(t, 2, nil)
	notFolder := filepath.Join(c.base, "file")
	if err := os.WriteFile(notFolder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	failing := c.peers[1] // set up late: a new peer first asks a minute after its start whether it has a cluster
	if _, err := failing.stop(startTime); err != nil {
		t.Fatal(err)
	}
	failing.env["CLUSTER_BACKUP_FOLDER"] = notFolder
	failing.startReady()
	c.waitWhole()
	for _, p := range c.peers {
		eventually(t, 2*time.Minute, "an alert on "+p.name, func(ctx context.Context) error {
			alerts, err := p.rest.Alerts(ctx)
			if err == nil && (len(alerts) != 1 || alerts[0].Name != api.AlertBackup || alerts[0].Peer != failing.id || alerts[0].LastGood != nil) {
				err = errors.New("not yet, or another")
			}
			return err
		})
		if out := p.mustCtl(time.Minute, "health", "alerts"); !strings.HasPrefix(out, failing.name+": backup. Triggered at: ") || !strings.HasSuffix(out, "Last good: never") {
			t.Errorf("%s: %s", p.name, out)
		}
	}
}
