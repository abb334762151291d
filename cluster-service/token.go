package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"holdfast/internal/daemon"
)

func (p program) tokenCommand() *cli.Command {
	return &cli.Command{
		Name:  "token",
		Usage: "work with join tokens",
		Subcommands: []*cli.Command{{
			Name:  "create",
			Usage: "make a token that lets one new peer join the cluster",
			Description: "Ask on a machine whose peer runs. Whoever has the token can join, once, until it expires:\n" +
				"keep it secret.",
			Flags: []cli.Flag{
				dirFlag(),
				&cli.DurationFlag{Name: "ttl", Value: time.Hour, Usage: "how long the token is valid, at most 720h"},
				&cli.StringFlag{Name: "enc", Value: "text", Usage: "text or json"},
			},
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				if enc := c.String("enc"); enc != "text" && enc != "json" {
					return fmt.Errorf("--enc %q: it is text or json", enc)
				}
				answer, err := daemon.AskToken(c.Context, c.String("dir"), c.Duration("ttl"))
				if err != nil {
					return err
				}
				if c.String("enc") == "json" {
					return json.NewEncoder(p.out).Encode(answer)
				}
				_, err = fmt.Fprintln(p.out, answer.Token)
				return err
			},
		}},
	}
}
