package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"holdfast/api"
)

func (p *program) pinLsCommand() *cli.Command {
	return &cli.Command{
		Name:      "ls",
		Usage:     "list the pinset, or one entry of it",
		ArgsUsage: "[CID]",
		Description: "Shows what must be kept and by whom. How far the peers got is what\n" +
			"'cluster-ctl status' shows.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "filter", Value: "all", Usage: "`TYPES` to list, joined by commas: pin, meta-pin, clusterdag-pin, shard-pin, all"},
		}, selectFlags()...),
		Action: func(c *cli.Context) error {
			filter, err := selection(c)
			if err != nil {
				return err
			}
			if c.NArg() == 0 {
				for _, name := range strings.Split(c.String("filter"), ",") {
					t, err := api.ParsePinType(strings.TrimSpace(name))
					if err != nil {
						return usagef("%v", err)
					}
					filter.Types = append(filter.Types, t)
				}
				if c.Bool("count") {
					n, err := p.cluster.Count(c.Context, filter)
					return p.showCount(n, err)
				}
				return showAll(p, p.cluster.Allocations(c.Context, filter), textPin)
			}
			if c.Bool("count") || !filter.SelectsAll() || filter.After.Defined() || filter.Limit > 0 {
				return usagef("give a CID, or flags that select pins, not both")
			}
			text, err := oneArg(c, "CID")
			if err != nil {
				return err
			}
			cid, err := parseCid(text)
			if err != nil {
				return err
			}
			pin, err := p.cluster.Allocation(c.Context, cid)
			if err != nil {
				return err
			}
			return show(p, pin, textPin)
		},
	}
}
