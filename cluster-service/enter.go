package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/urfave/cli/v2"

	"holdfast/config"
	"holdfast/internal/daemon"
)

// enterFlags are those of `daemon --init`.
func enterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "init", Usage: "if the folder is empty, first found or join the cluster that --founder and --join say", EnvVars: []string{"CLUSTER_INIT"}},
		&cli.StringFlag{Name: "founder", Usage: "`NAME` of the peer that founds the cluster when there is none; the others wait for it", EnvVars: []string{"CLUSTER_FOUNDER"}},
		&cli.StringSliceFlag{Name: "join", Usage: "`ADDRESSES` of the cluster's peers, such as /dns4/peer0/tcp/9096; may be repeated. A peer that has a cluster tries them, too, while it misses members", EnvVars: []string{"CLUSTER_JOIN"}},
	}
}

// folder returns the files of the peer; with --init it makes them first. The
// secret is nil without --init.
func (p program) folder(c *cli.Context, cfg config.Config, logger *slog.Logger) (daemon.Folder, *daemon.DeploymentSecret, error) {
	dir := c.String("dir")
	if !c.Bool("init") {
		folder, err := daemon.LoadFolder(dir)
		return folder, nil, err
	}
	secret, err := p.deploymentSecret()
	if err != nil {
		return daemon.Folder{}, nil, err
	}
	deployment := daemon.Deployment{Secret: secret, Founder: c.String("founder"), Join: c.StringSlice("join")}
	folder, err := daemon.Enter(c.Context, dir, deployment, cfg, apiVersion(), logger)
	return folder, &secret, err
}

// deploymentSecret reads it from where the environment says. It is no flag:
// every user of a machine can read the flags of its processes.
func (p program) deploymentSecret() (daemon.DeploymentSecret, error) {
	if text, ok := p.environment("CLUSTER_SECRET"); ok {
		secret, err := daemon.ParseDeploymentSecret(text)
		if err != nil {
			return secret, fmt.Errorf("CLUSTER_SECRET: %w", err)
		}
		return secret, nil
	}
	path, ok := p.environment("CLUSTER_SECRET_FILE")
	if !ok {
		return daemon.DeploymentSecret{}, errors.New("--init needs the secret that the peers of the deployment share: set CLUSTER_SECRET_FILE to its file, or CLUSTER_SECRET; 'cluster-service secret create' makes one")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return daemon.DeploymentSecret{}, fmt.Errorf("CLUSTER_SECRET_FILE: %w", err)
	}
	secret, err := daemon.ParseDeploymentSecret(string(data))
	if err != nil {
		return secret, fmt.Errorf("CLUSTER_SECRET_FILE %s: %w", path, err)
	}
	return secret, nil
}
