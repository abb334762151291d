package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"holdfast/internal/daemon"
)

func (p program) joinCommand() *cli.Command {
	return &cli.Command{
		Name:      "join",
		Usage:     "make this machine a peer of an existing cluster",
		ArgsUsage: "TOKEN",
		Description: "The token comes from 'cluster-service token create' on a peer of the cluster; '-' reads it from\n" +
			"standard input. Both machines must reach each other's cluster.listen address (port 9096), which is on\n" +
			"the loopback until you set it: CLUSTER_CLUSTER_LISTEN=/ip4/0.0.0.0/tcp/9096. Start the peer afterwards.",
		Flags: []cli.Flag{
			dirFlag(), setFlag(),
			&cli.StringFlag{Name: "peername", Usage: "`NAME` of the peer, for people; default: the host's name"},
			&cli.BoolFlag{Name: "private", Usage: "keep the IPFS node out of the public network: it talks to the cluster's own nodes only"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return errors.New("give one join token, from 'cluster-service token create' on a peer of the cluster")
			}
			text := c.Args().First()
			if text == "-" {
				data, err := io.ReadAll(io.LimitReader(p.in, 1<<20))
				if err != nil {
					return fmt.Errorf("read the token: %w", err)
				}
				text = string(data)
			}
			token, err := daemon.ParseJoinToken(strings.TrimSpace(text))
			if err != nil {
				return err
			}
			return p.join(c, token)
		},
	}
}

func (p program) join(c *cli.Context, token daemon.JoinToken) error {
	dir := c.String("dir")
	if err := daemon.MayJoin(dir); err != nil {
		return err
	}
	identity, err := daemon.EnsureIdentity(dir)
	if err != nil {
		return err
	}
	if err := writeSettings(c); err != nil {
		return err
	}
	settings, err := p.settings(c)
	if err != nil {
		return err
	}
	if err := daemon.Join(c.Context, dir, token, identity, settings.Config, apiVersion()); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "peer %s admitted to cluster %s\n\nStart it with: cluster-service daemon%s\n", identity.ID, token.ClusterID, dirHint(c))
	return nil
}
