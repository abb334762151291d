package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"holdfast/api"
)

func (p *program) healthCommand() *cli.Command {
	return &cli.Command{
		Name:        "health",
		Usage:       "ask a peer whether it is ready",
		Description: "Prints \"ready\", or fails with the reason: exit code 2 when the peer answers that it is\nnot ready, 1 when nobody answers.",
		Subcommands: []*cli.Command{p.alertsCommand()},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return unknownCommand(c)
			}
			if err := p.cluster.Health(c.Context); err != nil {
				return err
			}
			ready := struct {
				Ready bool `json:"ready"`
			}{true}
			return show(p, ready, func(w io.Writer, _ struct {
				Ready bool `json:"ready"`
			}) {
				fmt.Fprintln(w, "ready")
			})
		},
	}
}

func (p *program) alertsCommand() *cli.Command {
	return &cli.Command{
		Name:        "alerts",
		Usage:       "list what is wrong now: peers that are down, broken IPFS nodes, backups that fail",
		Description: "Newest first. Prints nothing when all is well; the exit code is 0 in both cases.",
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
