package main

import (
	"errors"

	"github.com/urfave/cli/v2"

	"holdfast/api"
)

func (p *program) ipfsGCCommand() *cli.Command {
	return &cli.Command{
		Name:        "gc",
		Description: "The exit code is 2 when any of the peers could not.",
		Usage:       "remove blocks that nothing keeps from the peers' IPFS repositories",
		Flags:       []cli.Flag{localFlag("only on the asked peer")},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			gc, err := p.cluster.RepoGC(c.Context, c.Bool("local"))
			if err != nil {
				return err
			}
			return errors.Join(show(p, gc, textGC), gcFailure(gc))
		},
	}
}

// gcFailure is the error of a collection that some peers could not make.
func gcFailure(gc api.GlobalRepoGC) error {
	failed := 0
	for _, peer := range gc.PeerMap {
		if peer.Error != "" {
			failed++
		}
	}
	if failed == 0 {
		return nil
	}
	return api.Errorf(api.CodeUnavailable, "%d of %d peers could not remove their garbage", failed, len(gc.PeerMap))
}
