package daemon

import (
	"path/filepath"

	"holdfast/internal/backup"
)

// openBackups makes what backs the pinset up by the clock, if that is asked for.
func (d *Daemon) openBackups() (err error) {
	c := d.opts.Config
	if c.BackupFolder == "" {
		return nil
	}
	folder := c.BackupFolder
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(d.opts.Dir, folder)
	}
	d.keeper, err = backup.NewKeeper(backup.KeeperConfig{Folder: folder, Interval: c.BackupInterval, Keep: c.BackupKeep},
		d.state, d.seams.FS, d.logger.With("part", "backup"))
	return err
}
