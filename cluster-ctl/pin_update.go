package main

import (
	"github.com/urfave/cli/v2"

	"holdfast/api"
)

func (p *program) pinUpdateCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "a `NAME` for the new pin; without it, that of the existing one"},
		expireFlag(),
	}
	return &cli.Command{
		Name:      "update",
		Usage:     "keep a CID with the options and holders of another pin",
		ArgsUsage: "EXISTING-CID NEW-CID|PATH",
		Description: "For a new version of something that is pinned already: its holders have most of the\n" +
			"blocks. The existing pin stays; drop it with 'cluster-ctl pin rm'.",
		Flags: append(flags, waitFlags()...),
		Action: func(c *cli.Context) error {
			if c.NArg() != 2 {
				return usagef("%s takes the existing CID and the new CID or path, got %d arguments", c.Command.HelpName, c.NArg())
			}
			from, err := parseCid(c.Args().Get(0))
			if err != nil {
				return err
			}
			path, err := parsePath(c.Args().Get(1))
			if err != nil {
				return err
			}
			options := api.PinOptions{Mode: api.ModeRecursive, Name: c.String("name"), PinUpdate: from}
			if options.ExpireAt, err = expireAt(c); err != nil {
				return err
			}
			if err := options.Validate(); err != nil {
				return usagef("%v", err)
			}
			return p.change(c, api.StatusPinned, func() (api.PinResult, error) { return p.cluster.PinPath(c.Context, path, options) })
		},
	}
}
