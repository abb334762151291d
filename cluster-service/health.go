package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"holdfast/internal/daemon"
	"holdfast/internal/version"
)

func (p program) healthCommand() *cli.Command {
	ask := func(c *cli.Context, ask func(context.Context, string) error) error {
		if err := noArguments(c); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
		defer cancel()
		return ask(ctx, c.String("dir"))
	}
	flags := []cli.Flag{dirFlag(), &cli.DurationFlag{Name: "timeout", Value: 5 * time.Second, Usage: "how long to wait for an answer"}}
	ready := func(c *cli.Context) error { return ask(c, daemon.AskReady) }
	return &cli.Command{
		Name:  "health",
		Usage: "exit with 0 if the peer of the folder runs and can take writes",
		Description: "Says why, if it cannot: the peer is starting, has no leader, was removed, its disk or its IPFS node does not work.\n" +
			"\"alive\" is for whoever restarts a peer that hangs: a restart helps against none of these reasons.",
		Flags:  flags,
		Action: ready,
		Subcommands: []*cli.Command{
			{Name: "ready", Usage: "exit with 0 if the peer can take writes", Flags: flags, Action: ready},
			{Name: "alive", Usage: "exit with 0 if the peer runs and answers, also while it starts or has no leader", Flags: flags,
				Action: func(c *cli.Context) error { return ask(c, daemon.AskAlive) }},
		},
	}
}

func (p program) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print version and commit",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			_, err := fmt.Fprintln(p.out, "cluster-service version", version.String())
			return err
		},
	}
}
