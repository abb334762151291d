package main

import "github.com/urfave/cli/v2"

func (p *program) idCommand() *cli.Command {
	return &cli.Command{
		Name:  "id",
		Usage: "show the peer that is asked: its addresses, its IPFS node, whom it sees",
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			id, err := p.cluster.ID(c.Context)
			if err != nil {
				return err
			}
			return show(p, id, textID)
		},
	}
}
