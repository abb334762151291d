package backup

import (
	"time"

	"holdfast/api"
)

// Report tells how the backups go.
func (k *Keeper) Report() api.BackupReport {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.report
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
