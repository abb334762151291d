package main

import "github.com/urfave/cli/v2"

func (p *program) peersLsCommand() *cli.Command {
	return &cli.Command{
		Name:  "ls",
		Usage: "list the peers of the cluster with their roles and states",
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return showAll(p, p.cluster.Peers(c.Context), textID)
		},
	}
}
