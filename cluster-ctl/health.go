package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"holdfast/api"
)

func (p *program) healthCommand() *cli.Command {
	return &cli.Command{
		Name:  "health",
		Usage: "ask a peer whether it is ready: whether it can take writes",
		Description: "Prints \"ready\", or fails with the reasons: exit code 2 when the peer answers that it is\n" +
			"not ready, 1 when nobody answers. \"alive\" asks only whether the peer's process answers, which\n" +
			"it also does while it starts or has no leader.",
		Subcommands: []*cli.Command{p.readyCommand(), p.aliveCommand(), p.alertsCommand()},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand(c)
			}
			return p.askReady(c)
		},
	}
}

func (p *program) readyCommand() *cli.Command {
	return &cli.Command{
		Name:        "ready",
		Usage:       "ask a peer whether it can take writes",
		Description: "Exit code 0: it can. 2: it answers, and says why it cannot. 1: nobody answers.",
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return p.askReady(c)
		},
	}
}

func (p *program) askReady(c *cli.Context) error {
	if err := p.cluster.Ready(c.Context); err != nil {
		return err
	}
	return show(p, readyJSON{true}, func(w io.Writer, _ readyJSON) { fmt.Fprintln(w, "ready") })
}

type readyJSON struct {
	Ready bool `json:"ready"`
}

type aliveJSON struct {
	Alive bool `json:"alive"`
}

func (p *program) aliveCommand() *cli.Command {
	return &cli.Command{
		Name:        "alive",
		Usage:       "ask whether a peer's process answers",
		Description: "Exit code 0: it does, be it ready or not. 1: nobody answers.",
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if err := p.cluster.Health(c.Context); err != nil {
				return err
			}
			return show(p, aliveJSON{true}, func(w io.Writer, _ aliveJSON) { fmt.Fprintln(w, "alive") })
		},
	}
}

func (p *program) alertsCommand() *cli.Command {
	return &cli.Command{
		Name:        "alerts",
		Usage:       "list what is wrong now, with what to do",
		Description: "Newest first. Prints nothing when all is well; the exit code is 0 in both cases. Each alert is\nexplained in docs/deployment.md.",
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			alerts, err := p.cluster.Alerts(c.Context)
			if err != nil {
				return err
			}
			if !p.json {
				for _, alert := range alerts {
					textAlert(p.out, alert)
				}
				return nil
			}
			return show(p, alerts, func(io.Writer, []api.Alert) {})
		},
	}
}
