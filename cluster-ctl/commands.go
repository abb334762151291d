package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// commandsCommand lists every command on a line of its own, for scripts.
func commandsCommand() *cli.Command {
	return &cli.Command{
		Name:   "commands",
		Usage:  "list all commands",
		Hidden: true,
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			var list func(prefix string, commands []*cli.Command)
			list = func(prefix string, commands []*cli.Command) {
				for _, command := range commands {
					if command.Hidden || command.Name == "help" {
						continue
					}
					path := prefix + " " + command.Name
					if len(command.Subcommands) == 0 || command.Description != "" { // a group has none: it does nothing itself
						fmt.Fprintln(c.App.Writer, path)
					}
					list(path, command.Subcommands)
				}
			}
			list(c.App.Name, c.App.Commands)
			return nil
		},
	}
}
