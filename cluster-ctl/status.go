package main

import (
	"github.com/urfave/cli/v2"

	"holdfast/api"
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name:      "status",
		Usage:     "show how far the peers got with their pins",
		ArgsUsage: "[CID...]",
		Description: "Without a CID, every pin. A pin is PINNED on a peer when every block of it is in that\n" +
			"peer's own store. A pin that failed says why, how often, and when it is tried next.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "filter", Usage: "only these `STATUSES`, joined by commas: " + api.StatusNames()},
			localFlag("show only what the asked peer holds"),
		}, selectFlags()...),
		Action: func(c *cli.Context) error {
			filter, err := api.ParseTrackerStatus(c.String("filter"))
			if err != nil {
				return usagef("%v", err)
			}
			pins, err := selection(c)
			if err != nil {
				return err
			}
			query := api.StatusQuery{Filter: filter, Local: c.Bool("local"), Pins: pins, After: pins.After, Limit: pins.Limit}
			for _, text := range c.Args().Slice() {
				cid, err := parseCid(text)
				if err != nil {
					return err
				}
				query.Cids = append(query.Cids, cid)
			}
			if len(query.Cids) > 0 && (pins.After.Defined() || pins.Limit > 0) {
				return usagef("--after and --limit page through the whole list; leave them out where CIDs are given")
			}
			if c.Bool("count") {
				n, err := p.cluster.CountStatuses(c.Context, query)
				return p.showCount(n, err)
			}
			if len(query.Cids) == 1 && filter == api.StatusUndefined && pins.SelectsAll() {
				info, err := p.cluster.Status(c.Context, query.Cids[0], query.Local)
				if err != nil {
					return err
				}
				return show(p, info, textStatus)
			}
			return showAll(p, p.cluster.StatusAll(c.Context, query), textStatus)
		},
	}
}

func localFlag(usage string) cli.Flag {
	return &cli.BoolFlag{Name: "local", Usage: usage}
}
