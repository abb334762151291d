package main

import (
	"slices"

	"github.com/urfave/cli/v2"

	"holdfast/api"
)

func (p *program) pinAddCommand() *cli.Command {
	flags := append(pinFlags("r"),
		&cli.StringFlag{Name: "mode", Value: "recursive", Usage: "`MODE`: recursive keeps the whole DAG, direct the one block of the CID"})
	return &cli.Command{
		Name:      "add",
		Usage:     "keep a CID",
		ArgsUsage: "CID|PATH",
		Description: "Returns when a majority of the peers has written the pin down. The peers that hold it\n" +
			"then fetch the content; --wait returns when they have it. Pinning a CID again changes\n" +
			"its options. With --from, each line of a file is a pin; an object such as\n" +
			"{\"cid\": \"bafy…\", \"name\": \"a\", \"replication_factor_min\": 2, \"metadata\": {…}} has options of\n" +
			"its own, and the flags say the others.",
		Flags: slices.Concat(flags, waitFlags(), fromFlags()),
		Action: func(c *cli.Context) error {
			if c.IsSet("from") {
				return p.pinFrom(c)
			}
			path, err := pathArg(c)
			if err != nil {
				return err
			}
			options, err := pinOptions(c)
			if err != nil {
				return err
			}
			return p.change(c, api.StatusPinned, func() (api.PinResult, error) { return p.cluster.PinPath(c.Context, path, options) })
		},
	}
}

// pinFrom keeps what the lines of a file say.
func (p *program) pinFrom(c *cli.Context) error {
	options, err := pinOptions(c)
	if err != nil {
		return err
	}
	run, input, err := p.newBulkRun(c)
	if err != nil {
		return err
	}
	defer input.Close()
	if run.options = options; !c.IsSet("mode") {
		run.options.Mode = "" // a line may say another
	}
	return run.run(c)
}
