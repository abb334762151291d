package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"holdfast/internal/daemon"
)

func (p program) recoverCommand() *cli.Command {
	return &cli.Command{
		Name:  "recover",
		Usage: "go on with this peer alone when the majority of the voters is lost for good",
		Description: "Works on the files of a stopped peer. Every pin stays. All other members are removed: their pins get other\n" +
			"holders, and they have to join again with a new folder. What only they knew is lost, so take the survivor\n" +
			"that is furthest ('cluster-service state hash' tells the index). Never do it while the others could come\n" +
			"back by themselves: then there would be two clusters.",
		Flags: []cli.Flag{
			dirFlag(),
			&cli.BoolFlag{Name: "force-new-cluster", Usage: "make this peer the only member"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
		},
		Action: func(c *cli.Context) (err error) {
			if err := noArguments(c); err != nil {
				return err
			}
			if !c.Bool("force-new-cluster") {
				return errors.New("say --force-new-cluster; it is the only way to recover so far, and 'cluster-service recover --help' tells what it costs")
			}
			r, err := daemon.OpenRecovery(c.String("dir"))
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, r.Close()) }()
			p.tell(r)
			if !c.Bool("yes") {
				if err := p.confirm("Continue? [y/N] ", false); err != nil {
					return err
				}
			}
			if err := r.Recover(); err != nil {
				return err
			}
			fmt.Fprintf(p.out, "peer %s is the only member now, with %d pins\n\nStart it with: cluster-service daemon%s\nThen let others join: cluster-service token create%s\n",
				r.Folder.Identity.ID, r.Pins, dirHint(c), dirHint(c))
			return nil
		},
	}
}

// tell says what will happen.
func (p program) tell(r *daemon.Recovery) {
	fmt.Fprintf(p.err, "Peer %s shall go on alone, with at least %d pins.\n", r.Folder.Identity.ID, r.Pins)
	for _, m := range r.Lost {
		fmt.Fprintf(p.err, "  removed: %s (%s)\n", m.ID, m.Name)
	}
	fmt.Fprintln(p.err, "The removed peers must never start again with their folders; they join as new ones.\nWrites that only they knew are lost.")
}
