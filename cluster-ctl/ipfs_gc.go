package main

import "github.com/urfave/cli/v2"

func (p *program) ipfsGCCommand() *cli.Command {
	return &cli.Command{
		Name:  "gc",
		Usage: "remove blocks that nothing keeps from the peers' IPFS repositories",
		Flags: []cli.Flag{localFlag("only on the asked peer")},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			gc, err := p.cluster.RepoGC(c.Context, c.Bool("local"))
			if err != nil {
				return err
			}
			return show(p, gc, textGC)
		},
	}
}
