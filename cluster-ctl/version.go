package main

import (
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"holdfast/api"
)

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "show the version of the peer that is asked; 'cluster-ctl --version' shows that of the command line",
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			v, err := p.cluster.Version(c.Context)
			if err != nil {
				return err
			}
			return show(p, v, func(w io.Writer, v api.Version) { fmt.Fprintln(w, name(v.Version)) })
		},
	}
}
