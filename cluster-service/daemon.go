package main

import (
	"context"
	"errors"
	"os"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"holdfast/internal/daemon"
)

func (p program) daemonCommand() *cli.Command {
	return &cli.Command{
		Name:  "daemon",
		Usage: "run the peer in the foreground",
		Description: "The HTTP APIs listen at once and answer 503 until the peer is ready. SIGTERM or ^C stops it\n" +
			"cleanly; a second one at once, which is safe too. Under systemd use Type=notify, and WatchdogSec=\n" +
			"to have a peer restarted that answers nothing.\n" +
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
			logger := daemon.NewLogger(settings.LogLevel, settings.LogFormat, p.err)
			p.limitMemory(os.DirFS("/"), logger)
			defer p.collectLate(1)()
			folder, secret, err := p.folder(c, settings.Config, logger)
			if err != nil {
				return err
			}
			d, err := daemon.New(daemon.Options{Dir: folder.Dir, Config: settings.Config, Identity: folder.Identity,
				Cluster: folder.Cluster, Deployment: secret, Version: apiVersion(), Logger: logger})
			if err != nil {
				return err
			}
			return runNotifying(c.Context, d, func(ctx context.Context) error { return daemon.AskAlive(ctx, folder.Dir) })
		},
	}
}

// runNotifying runs a peer and tells systemd, where there is one, how it goes.
func runNotifying(ctx context.Context, d *daemon.Daemon, alive func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := make(chan error, 1)
	go func() {
		watchdog, err := sd.SdWatchdogEnabled(false)
		n := notifier{ready: d.Ready(), readiness: d.Readiness, alive: alive, watchdog: watchdog,
			send: func(state string) error { _, err := sd.SdNotify(false, state); return err }}
		told <- errors.Join(err, n.run(ctx))
	}()
	err := d.Run(ctx)
	cancel()
	return errors.Join(err, <-told)
}
