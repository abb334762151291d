package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"holdfast/internal/daemon"
	"holdfast/internal/dev"
)

func (p program) devCommand() *cli.Command {
	return &cli.Command{
		Name:  "dev",
		Usage: "run several complete peers on this machine, to try things out",
		Description: "Peer k listens on the loopback, on the default ports + 10·k: REST 9094, IPFS proxy 9095, cluster\n" +
			"swarm 9096, Pinning Service API 9097, IPFS swarm 4001. Without --dir everything is gone at the end.\n" +
			"Nothing outside this machine is contacted unless --public is given.",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "peers", Value: 3, Usage: fmt.Sprintf("how many `N`, 1 to %d", dev.MaxPeers)},
			&cli.StringFlag{Name: "dir", Usage: "keep the peers' data in `FOLDER` and go on from it next time"},
			&cli.BoolFlag{Name: "json", Usage: "print the addresses as JSON on one line when ready"},
			&cli.BoolFlag{Name: "public", Usage: "let the IPFS nodes take part in the public network"},
			&cli.StringFlag{Name: "log", Value: "error", Usage: "log `LEVEL`: debug, info, warn or error"},
		},
		Action: p.dev,
	}
}

func (p program) dev(c *cli.Context) (err error) {
	if err := noArguments(c); err != nil {
		return err
	}
	dir := c.String("dir")
	if dir == "" {
		if dir, err = os.MkdirTemp("", "holdfast-dev-"); err != nil {
			return fmt.Errorf("make a temporary folder: %w", err)
		}
		defer os.RemoveAll(dir)
	}
	cluster, err := dev.New(dev.Options{Peers: c.Int("peers"), Dir: dir, Public: c.Bool("public"), Version: apiVersion(),
		Logger: daemon.NewLogger(c.String("log"), "text", p.err), Environment: p.environment})
	if err != nil {
		return err
	}
	if !c.Bool("json") {
		fmt.Fprintf(p.out, "Starting %d peers…\n", c.Int("peers"))
	}
	defer p.collectLate(c.Int("peers"))()
	return cluster.Run(c.Context, func(peers []dev.Peer) {
		if c.Bool("json") {
			line, err := json.Marshal(map[string]any{"peers": peers})
			if err == nil {
				fmt.Fprintf(p.out, "%s\n", line)
			}
			return
		}
		p.welcome(peers)
	})
}

// welcome says where the peers are and what to try.
func (p program) welcome(peers []dev.Peer) {
	fmt.Fprintf(p.out, "\nReady. %d peers, one cluster:\n", len(peers))
	for _, peer := range peers {
		fmt.Fprintf(p.out, "\n  %s  %s\n    REST API        %s\n    IPFS proxy      %s\n    Pinning Service %s\n    cluster swarm   %s\n    IPFS swarm      %s\n    folder          %s\n",
			peer.Name, peer.ID, peer.REST, peer.Proxy, peer.Pinsvc, peer.Cluster, peer.Swarm, peer.Dir)
	}
	fmt.Fprint(p.out, `
Try, in another terminal:

  go run ./cluster-ctl peers ls
  go run ./cluster-ctl add --wait README.md
  go run ./cluster-ctl pin ls
  ipfs --api /ip4/127.0.0.1/tcp/9095 pin ls

^C stops the peers.
`)
}
