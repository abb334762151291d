package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"holdfast/api"
	"holdfast/config"
)

// reloading is what a running peer takes from its settings when they are read
// again.
type reloading struct {
	level *slog.LevelVar // nil: fixed

	mu      sync.Mutex
	current config.Config
	problem error // why the last ones are not in use; nil: they are
}

// Reload takes over what can change while the peer runs: the users, the names
// that it answers to, the files of the TLS certificate, and the level of the log.
// What cannot be used changes nothing, and is an alert until the next reload.
func (d *Daemon) Reload(load func() (config.Config, error)) {
	d.reloading.mu.Lock()
	defer d.reloading.mu.Unlock()
	next, err := load()
	if err == nil {
		err = d.takeOver(next)
	}
	d.reloading.problem = err
	if err != nil {
		d.logger.Error("the settings were not reloaded, those before stay in use", "err", err)
	}
}

func (d *Daemon) takeOver(next config.Config) error {
	old := d.reloading.current
	merged := old
	merged.Users, merged.AllowedHosts, merged.TLSCert, merged.TLSKey, merged.LogLevel = next.Users, next.AllowedHosts, next.TLSCert, next.TLSKey, next.LogLevel
	// The listeners stay as they are: what is right with other ones may not be with these.
	if err := errors.Join(merged.Validate()...); err != nil {
		return err
	}
	if (old.TLSCert == "") != (next.TLSCert == "") {
		return errors.New("TLS is turned on and off by a restart only")
	}
	if d.certificate != nil {
		if err := d.certificate.Reload(next.TLSCert, next.TLSKey); err != nil {
			return err
		}
	}
	if d.guard != nil {
		d.guard.Set(access(merged))
	}
	if d.reloading.level != nil {
		d.reloading.level.Set(ParseLevel(merged.LogLevel))
	}
	d.reloading.current = merged
	d.logger.Info("settings reloaded", "changed", config.Changes(old, merged), "need_a_restart", config.Changes(merged, next), "users", len(merged.Users))
	return nil
}

// reloadConditions tells of settings that could not be taken over.
func (d *Daemon) reloadConditions() []api.Condition {
	d.reloading.mu.Lock()
	defer d.reloading.mu.Unlock()
	if d.reloading.problem == nil {
		return nil
	}
	return []api.Condition{{Name: api.AlertSettings, Message: fmt.Sprintf(
		"the settings were not reloaded, those before stay in use: %v. Correct them and reload again (SIGHUP)", d.reloading.problem)}}
}
