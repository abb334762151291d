package main

import (
	"github.com/urfave/cli/v2"

	"holdfast/api"
)

func (p *program) pinRmCommand() *cli.Command {
	return &cli.Command{
		Name:        "rm",
		Usage:       "let go of a CID",
		ArgsUsage:   "CID|PATH",
		Description: "The peers drop their pins. The blocks stay until 'cluster-ctl ipfs gc' or until space is short.",
		Flags:       append(waitFlags(), fromFlags()...),
		Action: func(c *cli.Context) error {
			if c.IsSet("from") {
				run, input, err := p.newBulkRun(c)
				if err != nil {
					return err
				}
				defer input.Close()
				run.unpin = true
				return run.run(c)
			}
			path, err := pathArg(c)
			if err != nil {
				return err
			}
			return p.change(c, api.StatusUnpinned, func() (api.PinResult, error) { return p.cluster.UnpinPath(c.Context, path) })
		},
	}
}
