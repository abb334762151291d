package main

import (
	"github.com/urfave/cli/v2"
)

func (p *program) changesCommand() *cli.Command {
	return &cli.Command{
		Name:  "changes",
		Usage: "show what changed in the pinset since a log index",
		Description: "Writes a line for each change: its index, the CID, and whether it is pinned now. The feed\n" +
			"reaches back some 100,000 changes; the answer to an older index says how to go on. To resume,\n" +
			"give the last index of which a later one was shown, since one index may have many changes.",
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "since", Usage: "the log `INDEX` after which the changes begin; 0: with the first"},
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "wait for more until interrupted"},
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return showAll(p, p.cluster.Changes(c.Context, c.Uint64("since"), c.Bool("follow")), textChange)
		},
	}
}
