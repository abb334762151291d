package backup

import (
	"fmt"
	"time"

	"holdfast/api"
)

// Report tells how the backups go.
func (k *Keeper) Report() api.BackupReport {
	k.mu.Lock()
	defer k.mu.Unlock()
	report := k.report
	if !k.began.IsZero() && time.Since(k.began) >= stuckAfter {
		report.Error = fmt.Sprintf("the one that began at %s is not done; does the disk of %s answer?",
			k.began.UTC().Format(time.RFC3339), k.config.Folder)
		if report.Since.IsZero() {
			report.Since = k.began.UTC()
		}
	}
	return report
}

// begin notes that a try is under way since then, or with no time that none is.
func (k *Keeper) begin(at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.began = at
}

// seen notes a backup that lies in the folder, perhaps from before this start.
func (k *Keeper) seen(at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.report.LastGood.IsZero() {
		k.report.LastGood = at
	}
}

func (k *Keeper) succeeded(at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.report = api.BackupReport{LastGood: at.UTC().Truncate(time.Second)}
}

func (k *Keeper) failed(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.report.Error == "" {
		k.report.Since = time.Now().UTC()
	}
	k.report.Error = err.Error()
}
