package main

import (
	"context"
	"fmt"
	"io"
	"iter"

	"github.com/urfave/cli/v2"

	"holdfast/client"
	"holdfast/internal/version"
)

// program is one run of the command line: its streams, and what the global
// flags said.
type program struct {
	in       io.Reader
	out      io.Writer
	err      io.Writer
	terminal bool // err is a terminal: progress may be drawn there

	json    bool
	cluster *client.Client // set before a command runs
}

// run runs one command line and returns the exit code of the process.
func (p *program) run(ctx context.Context, args []string) int {
	app := p.app()
	// While it completes, the parser must bear with half a flag, and cannot when
	// it also splits short ones.
	app.UseShortOptionHandling = !completing(args)
	err := app.RunContext(ctx, arrange(app, args))
	p.report(err)
	return exitCode(ctx, err)
}

func (p *program) app() *cli.App {
	app := &cli.App{
		Name:    "cluster-ctl",
		Usage:   "add files to a Holdfast cluster, keep and drop pins, see who holds what",
		Version: version.String(),
		Description: "Talks to the REST API of one peer. Flags may stand before or after the arguments.\n" +
			"Exit codes: 0 done; 1 wrong arguments, no connection or another error here; 2 the peer answered\n" +
			"with an error; 3 unknown command; 62 the time to wait is over; 125 interrupted.",
		Flags:                     globalFlags(),
		Before:                    p.before,
		Action:                    unknownCommand,
		Writer:                    p.out,
		ErrWriter:                 p.err,
		Reader:                    p.in,
		OnUsageError:              onUsageError,
		ExitErrHandler:            func(*cli.Context, error) {}, // run decides
		DisableSliceFlagSeparator: true,
		EnableBashCompletion:      true,
	}
	app.Commands = []*cli.Command{
		p.idCommand(),
		group("peers", "list and remove peers, and say who votes", p.peersLsCommand(), p.peersRmCommand(),
			p.peersPromoteCommand(), p.peersDemoteCommand(), p.peersAutoCommand(), p.peersTransferCommand()),
		p.addCommand(),
		group("pin", "list and change the pinset", p.pinAddCommand(), p.pinRmCommand(), p.pinLsCommand(), p.pinUpdateCommand()),
		p.statusCommand(),
		p.changesCommand(),
		p.recoverCommand(),
		group("ipfs", "work on the IPFS nodes of the peers", p.ipfsGCCommand()),
		p.benchCommand(),
		p.versionCommand(),
		p.healthCommand(),
		completionCommand(),
		commandsCommand(),
		manCommand(),
	}
	for _, c := range app.Commands {
		finish(c)
	}
	return app
}

// group makes a command that only holds others.
func group(name, usage string, commands ...*cli.Command) *cli.Command {
	return &cli.Command{Name: name, Usage: usage, Subcommands: commands, Action: unknownCommand}
}

// finish gives a command and those under it what all of them share.
func finish(c *cli.Command) {
	c.OnUsageError = onUsageError
	c.HideHelpCommand = len(c.Subcommands) == 0
	for _, sub := range c.Subcommands {
		finish(sub)
	}
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	name := "cluster-ctl"
	if c.Command != nil && c.Command.HelpName != "" {
		name = c.Command.HelpName
	}
	return usagef("%v; '%s --help' lists the flags", err, name)
}

// unknownCommand is what a group does when none of its commands was named.
func unknownCommand(c *cli.Context) error {
	if !c.Args().Present() {
		return cli.ShowSubcommandHelp(c)
	}
	name := "cluster-ctl"
	if c.Command != nil && c.Command.HelpName != "" {
		name = c.Command.HelpName
	}
	return &unknownCommandError{fmt.Sprintf("unknown command %q; '%s --help' lists the commands", c.Args().First(), name)}
}

// show writes one result: as JSON when that was asked, else by text.
func show[T any](p *program, value T, text func(io.Writer, T)) error {
	if !p.json {
		text(p.out, value)
		return nil
	}
	return writeJSON(p.out, value)
}

// showCount writes a number of results, or returns the error that it came with.
func (p *program) showCount(n uint64, err error) error {
	if err != nil {
		return err
	}
	return show(p, counted{n}, func(w io.Writer, c counted) { fmt.Fprintln(w, c.Count) })
}

type counted struct {
	Count uint64 `json:"count"`
}

// showAll writes the results of a listing as they come.
func showAll[T any](p *program, items iter.Seq2[T, error], text func(io.Writer, T)) error {
	for item, err := range items {
		if err != nil {
			return err
		}
		if err := show(p, item, text); err != nil {
			return err
		}
	}
	return nil
}
