package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"holdfast/config"
	"holdfast/internal/daemon"
)

const daemonName = "daemon"

func (p program) daemonCommand() *cli.Command {
	return &cli.Command{
		Name:  daemonName,
		Usage: "run the peer in the foreground",
		Description: "The HTTP APIs listen at once and answer 503 until the peer is ready. SIGTERM or ^C stops it\n" +
			"cleanly; a second one at once, which is safe too. Under systemd use Type=notify, and WatchdogSec=\n" +
			"to have a peer restarted that answers nothing.\n" +
			"SIGHUP reloads the users, http.allowed_hosts, the files of the TLS certificate and the log's level.\n" +
			"With --init an empty folder becomes a peer of the deployment whose secret is in CLUSTER_SECRET or the\n" +
			"file CLUSTER_SECRET_FILE; a folder that holds a peer is left as it is.",
		Flags: append([]cli.Flag{dirFlag(), setFlag()}, enterFlags()...),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			settings, err := p.settings(c)
			if err != nil {
				return err
			}
			remarks, err := p.checkEnvironment()
			if err != nil {
				return err
			}
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			level := &slog.LevelVar{}
			level.Set(daemon.ParseLevel(settings.LogLevel))
			logger := daemon.NewLeveledLogger(level, settings.LogFormat, p.err)
			for _, text := range remarks {
				logger.Warn(text)
			}
			p.limitMemory(os.DirFS("/"), logger)
			defer p.collectLate(1)()
			folder, secret, err := p.folder(c, settings.Config, logger)
			if err != nil {
				return err
			}
			settings.Config.PeerAddresses = append(slices.Clone(settings.Config.PeerAddresses), c.StringSlice("join")...)
			d, err := daemon.New(daemon.Options{Dir: folder.Dir, Config: settings.Config, Identity: folder.Identity,
				Cluster: folder.Cluster, Deployment: secret, Version: apiVersion(), Logger: logger, LogLevel: level})
			if err != nil {
				return err
			}
			alive := func(ctx context.Context) error { return daemon.AskAlive(ctx, folder.Dir) }
			reload := func() {
				d.Reload(func() (config.Config, error) {
					settings, err := p.settings(c)
					return settings.Config, err
				})
			}
			return runNotifying(c.Context, d, alive, hangup, reload)
		},
	}
}

// runNotifying runs a peer, tells systemd, where there is one, how it goes, and
// reloads the settings at each hangup.
func runNotifying(ctx context.Context, d *daemon.Daemon, alive func(context.Context) error, hangup <-chan os.Signal, reload func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told, reloaded := make(chan error, 1), make(chan struct{})
	go func() {
		watchdog, err := sd.SdWatchdogEnabled(false)
		n := notifier{ready: d.Ready(), readiness: d.Readiness, alive: alive, watchdog: watchdog,
			send: func(state string) error { _, err := sd.SdNotify(false, state); return err }}
		told <- errors.Join(err, n.run(ctx))
	}()
	go func() {
		defer close(reloaded)
		atHangup(ctx, d.Ready(), hangup, reload)
	}()
	err := d.Run(ctx)
	cancel()
	<-reloaded
	return errors.Join(err, <-told)
}

// atHangup calls reload at each signal, once the peer is ready.
func atHangup(ctx context.Context, ready <-chan struct{}, hangup <-chan os.Signal, reload func()) {
	select {
	case <-ready:
	case <-ctx.Done():
	}
	for {
		select {
		case <-hangup:
			reload()
		case <-ctx.Done():
			return
		}
	}
}
