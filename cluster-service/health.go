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
	return &cli.Command{
		Name:  "health",
		Usage: "exit with 0 if the peer of the folder runs and is ready",
		Flags: []cli.Flag{dirFlag(), &cli.DurationFlag{Name: "timeout", Value: 5 * time.Second, Usage: "how long to wait for an answer"}},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
			defer cancel()
			return daemon.AskHealth(ctx, c.String("dir"))
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
