package main

import (
	"github.com/urfave/cli/v2"

	"holdfast/api"
)

func (p *program) peersPromoteCommand() *cli.Command {
	return p.roleCommand("promote", "give a peer a vote", api.RoleVoter,
		"The peer keeps the vote as long as it is fit for it: the wish is stored. Another loses its own when there would be too many or an even number.")
}

func (p *program) peersDemoteCommand() *cli.Command {
	return p.roleCommand("demote", "take a peer's vote: it replicates and serves, and does not vote", api.RoleLearner,
		"The peer is not given a vote again: the wish is stored. Refused when the other voters could decide nothing.")
}

func (p *program) peersAutoCommand() *cli.Command {
	return p.roleCommand("auto", "let the cluster decide whether a peer votes", api.RoleAuto,
		"Takes back what 'promote' or 'demote' wished.")
}

func (p *program) roleCommand(name, usage string, role api.Role, description string) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, ArgsUsage: "PEER-ID", Description: description,
		Action: func(c *cli.Context) error {
			id, err := onePeer(c)
			if err != nil {
				return err
			}
			return p.cluster.SetRole(c.Context, api.RoleRequest{Peer: id, Role: role})
		},
	}
}

func (p *program) peersTransferCommand() *cli.Command {
	return &cli.Command{
		Name:        "transfer-leadership",
		Usage:       "make another voter the leader",
		ArgsUsage:   "PEER-ID",
		Description: "Useful before the machine of the leader goes down for a while. Writes wait for a moment.",
		Action: func(c *cli.Context) error {
			id, err := onePeer(c)
			if err != nil {
				return err
			}
			return p.cluster.TransferLeadership(c.Context, id)
		},
	}
}
