package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"holdfast/internal/daemon"
)

func (p program) initCommand() *cli.Command {
	return &cli.Command{
		Name:  "init",
		Usage: "make a new peer that begins a cluster of its own",
		Description: "Writes service.json (settings that differ from the defaults), identity.json (the peer's key)\n" +
			"and cluster.json (the cluster's secret), readable by you only. An existing peer is never changed.",
		Flags: []cli.Flag{
			dirFlag(),
			&cli.StringFlag{Name: "peername", Usage: "`NAME` of the peer, for people; default: the host's name"},
			&cli.BoolFlag{Name: "private", Usage: "keep the IPFS node out of the public network: it talks to the cluster's own nodes only"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			folder, err := daemon.Found(c.String("dir"))
			if err != nil {
				return err
			}
			if err := writeSettings(c); err != nil {
				return err
			}
			fmt.Fprintf(p.out, "peer %s\nin   %s\n\nStart it with: cluster-service daemon%s\n", folder.Identity.ID, folder.Dir, dirHint(c))
			return nil
		},
	}
}

// writeSettings writes service.json from the flags, unless there is one.
func writeSettings(c *cli.Context) error {
	dir := c.String("dir")
	if _, err := os.Stat(filepath.Join(dir, daemon.ConfigFile)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	settings := map[string]any{}
	if name := c.String("peername"); name != "" {
		settings["peername"] = name
	}
	if c.Bool("private") {
		settings["ipfs.public"] = false
		settings["ipfs.swarm"] = []string{"/ip4/127.0.0.1/tcp/4001"}
	}
	return daemon.WriteSettings(dir, settings)
}

// dirHint repeats --dir in a command that is suggested.
func dirHint(c *cli.Context) string {
	if !c.IsSet("dir") {
		return ""
	}
	return " --dir " + c.String("dir")
}
