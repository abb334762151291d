package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"holdfast/api"
	"holdfast/config"
	"holdfast/internal/daemon"
	"holdfast/internal/version"
)

// program is the command line with what it touches.
type program struct {
	in          io.Reader
	out, err    io.Writer
	environment func(string) (string, bool)
	environ     func() []string // every NAME=value
}

// app is the tree of commands.
func (p program) app() *cli.App {
	return &cli.App{
		Name:  "cluster-service",
		Usage: "run a peer of a Holdfast cluster",
		Description: "A peer is an IPFS node, a replica of the cluster's pinset, and the HTTP APIs to both.\n" +
			"Try three on this machine with 'cluster-service dev'. For a real one: 'init' and 'daemon'\n" +
			"on the first machine, 'token create' there, and 'join TOKEN' and 'daemon' on the others.",
		Version:              version.String(),
		Reader:               p.in,
		Writer:               p.out,
		ErrWriter:            p.err,
		EnableBashCompletion: true,
		Suggest:              true,
		Before:               p.endAtHangup,
		Action:               p.unknown,
		ExitErrHandler:       func(*cli.Context, error) {}, // main prints it, once
		Commands: []*cli.Command{p.initCommand(), p.daemonCommand(), p.joinCommand(), p.tokenCommand(), p.secretCommand(), p.stateCommand(), p.recoverCommand(), p.devCommand(), p.configCommand(), p.healthCommand(), p.versionCommand(),
			p.completionCommand(), p.manCommand()},
	}
}

// unknown is the action without a command.
func (p program) unknown(c *cli.Context) error {
	if c.Args().Present() {
		return fmt.Errorf("unknown command %q; 'cluster-service help' lists them", c.Args().First())
	}
	return errors.Join(cli.ShowAppHelp(c), errors.New("give a command"))
}

// endAtHangup ends a command when its terminal does. A peer runs on: to it the
// signal means to reload.
func (p program) endAtHangup(c *cli.Context) error {
	if c.Args().First() != daemonName && !signal.Ignored(syscall.SIGHUP) {
		ctx, stop := signal.NotifyContext(c.Context, syscall.SIGHUP)
		context.AfterFunc(ctx, stop)
		c.Context = ctx
	}
	return nil
}

// checkEnvironment refuses variables that were meant to protect a peer and do
// not, and returns remarks on others that change nothing.
func (p program) checkEnvironment() ([]string, error) {
	if p.environ == nil {
		return nil, nil
	}
	return config.CheckEnvironment(p.environ())
}

// noArguments refuses arguments that a command would not look at.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return fmt.Errorf("%s takes no argument, got %q", c.Command.FullName(), c.Args().First())
	}
	return nil
}

func dirFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "dir", Aliases: []string{"d"}, Usage: "the peer's `FOLDER`", EnvVars: []string{"CLUSTER_DIR"}, Value: defaultDir(),
		DefaultText: "~/.holdfast"}
}

func defaultDir() string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ".holdfast"
	}
	return filepath.Join(home, ".holdfast")
}

func setFlag() *cli.StringSliceFlag {
	return &cli.StringSliceFlag{Name: "set", Usage: "set one setting for this run, as `KEY=VALUE` ('config show' lists them); may be repeated"}
}

// settings reads file, environment and --set.
func (p program) settings(c *cli.Context) (config.Effective, error) {
	flags := map[string]string{}
	for _, text := range c.StringSlice("set") {
		key, value, ok := strings.Cut(text, "=")
		if !ok {
			return config.Effective{}, fmt.Errorf("--set %q: give it as key=value", text)
		}
		flags[key] = value
	}
	return config.Load(filepath.Join(c.String("dir"), daemon.ConfigFile), p.environment, flags)
}

func apiVersion() api.Version {
	return api.Version{Version: version.Version, Commit: version.Commit()}
}
