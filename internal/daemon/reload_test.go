package daemon

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"holdfast/api"
	"holdfast/config"
	"holdfast/internal/front"
)

// A reload takes over what it can; settings that are wrong, or would open a
// listener, change nothing and are an alert until they are right.
func TestReload(t *testing.T) {
	var log strings.Builder
	level := &slog.LevelVar{}
	logger := NewLeveledLogger(level, "text", &log)
	old := config.New()
	old.RESTListen, old.Users = []string{"/ip4/0.0.0.0/tcp/1"}, map[string]string{"ann": "first"}
	d := &Daemon{logger: logger, reloading: reloading{level: level, current: old}}
	d.guard = front.NewGuard(access(old), logger)
	load := func(change func(*config.Config), err error) func() (config.Config, error) {
		return func() (config.Config, error) {
			next := old
			change(&next)
			return next, err
		}
	}
	for name, bad := range map[string]func() (config.Config, error){
		"unreadable":       load(func(*config.Config) {}, errors.New("line 7")),
		"opens a listener": load(func(c *config.Config) { c.Users, c.RESTListen = nil, []string{"/ip4/127.0.0.1/tcp/1"} }, nil),
		"turns TLS on":     load(func(c *config.Config) { c.TLSCert, c.TLSKey = "a", "b" }, nil),
	} {
		d.Reload(bad)
		if problems := d.reloadConditions(); len(problems) != 1 || problems[0].Name != api.AlertSettings {
			t.Errorf("%s: %v", name, problems)
		}
		if len(d.reloading.current.Users) != 1 {
			t.Errorf("%s: the users are gone", name)
		}
	}
	d.Reload(load(func(c *config.Config) {
		c.Users, c.LogLevel, c.Voters = map[string]string{"ann": "second", "bob": "x"}, "debug", 3
	}, nil))
	if problems := d.reloadConditions(); len(problems) > 0 {
		t.Error(problems)
	}
	if level.Level() != slog.LevelDebug || d.reloading.current.Users["ann"] != "second" || d.reloading.current.Voters != old.Voters {
		t.Errorf("level %s, %+v", level.Level(), d.reloading.current)
	}
	last := log.String()[strings.LastIndex(strings.TrimSpace(log.String()), "\n")+1:]
	if !strings.Contains(last, "changed=\"[http.users log.level]\"") || !strings.Contains(last, "need_a_restart=[cluster.voters]") || strings.Contains(log.String(), "second") {
		t.Error(last)
	}
}
