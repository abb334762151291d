package main

import "github.com/urfave/cli/v2"

func (p *program) recoverCommand() *cli.Command {
	return &cli.Command{
		Name:      "recover",
		Usage:     "try failed pins again now, and look whether pinned ones are whole",
		ArgsUsage: "[CID]",
		Description: "Failed pins are tried again by themselves, ever more slowly. This starts the next try at\n" +
			"once: for one CID, or for all that failed. A CID that is pinned is looked at, block by block,\n" +
			"and what is missing is fetched again; without a CID, all that is pinned is looked at in the\n" +
			"background.",
		Flags: []cli.Flag{localFlag("only on the asked peer")},
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				return showAll(p, p.cluster.RecoverAll(c.Context, c.Bool("local")), textStatus)
			}
			text, err := oneArg(c, "CID")
			if err != nil {
				return err
			}
			cid, err := parseCid(text)
			if err != nil {
				return err
			}
			info, err := p.cluster.Recover(c.Context, cid, c.Bool("local"))
			if err != nil {
				return err
			}
			return show(p, info, textStatus)
		},
	}
}
