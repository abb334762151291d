package main

import (
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"

	"holdfast/api"
)

func (p *program) peersRmCommand() *cli.Command {
	return &cli.Command{
		Name:        "rm",
		Usage:       "remove a peer from the cluster",
		ArgsUsage:   "PEER-ID",
		Description: "Its pins are given to other peers. The removed peer keeps its data but is no longer admitted.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "remove it even if too few of the other voters are alive to decide anything afterwards"}},
		Action: func(c *cli.Context) error {
			id, err := onePeer(c)
			if err != nil {
				return err
			}
			return p.cluster.RemovePeer(c.Context, api.RemoveRequest{Peer: id, Force: c.Bool("force")})
		},
	}
}

// onePeer reads the one argument of a command, a peer ID.
func onePeer(c *cli.Context) (peer.ID, error) {
	text, err := oneArg(c, "peer ID")
	if err != nil {
		return "", err
	}
	id, err := api.DecodePeer(text)
	if err != nil {
		return "", usagef("%v", err)
	}
	return id, nil
}
