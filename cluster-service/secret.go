package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"holdfast/internal/daemon"
)

// Names of the files of a deployment's secrets.
const (
	secretFile = "cluster_secret" // 64 hexadecimal digits
	usersFile  = "http_users"     // admin:PASSWORD
)

const defaultSecrets = "/run/secrets"

func (p program) secretCommand() *cli.Command {
	dir := &cli.StringFlag{Name: "secrets", Value: defaultSecrets, Usage: "`FOLDER` of the deployment's secrets"}
	return &cli.Command{
		Name:  "secret",
		Usage: "make and show what the peers of one deployment share",
		Subcommands: []*cli.Command{{
			Name:  "create",
			Usage: "make the secrets of a deployment that are missing",
			Description: secretFile + " admits peers to the cluster (CLUSTER_SECRET_FILE of 'daemon --init'); " + usersFile + " is for\n" +
				"the HTTP APIs (CLUSTER_HTTP_USERS_FILE). Files that exist are never changed.",
			Flags: []cli.Flag{dir},
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				return p.createSecrets(c.String("secrets"))
			},
		}, {
			Name:      "show",
			Usage:     "print one of them",
			ArgsUsage: secretFile + "|" + usersFile,
			Flags:     []cli.Flag{dir},
			Action: func(c *cli.Context) error {
				name := c.Args().First()
				if c.NArg() != 1 || name != secretFile && name != usersFile {
					return fmt.Errorf("give the name of one secret: %s or %s", secretFile, usersFile)
				}
				data, err := os.ReadFile(filepath.Join(c.String("secrets"), name))
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(p.out, strings.TrimSpace(string(data)))
				return err
			},
		}},
	}
}

func (p program) createSecrets(dir string) error {
	password := make([]byte, 16)
	_, _ = rand.Read(password) // never fails (crypto/rand)
	for _, secret := range []struct{ name, text string }{
		{secretFile, daemon.NewDeploymentSecret().String()},
		{usersFile, "admin:" + hex.EncodeToString(password)},
	} {
		made, err := createOnce(filepath.Join(dir, secret.name), secret.text+"\n")
		if err != nil {
			return fmt.Errorf("make the secret %s: %w", secret.name, err)
		}
		if made {
			fmt.Fprintf(p.out, "made %s\n", filepath.Join(dir, secret.name))
		}
	}
	return nil
}

// createOnce writes a file that only its owner can read, whole or not at all,
// unless it is there already.
func createOnce(path, text string) (made bool, err error) {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(temp.Name())
	_, err = temp.WriteString(text)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return false, err
	}
	// A link does not replace what somebody else has just made.
	if err := os.Link(temp.Name(), path); !errors.Is(err, os.ErrExist) {
		return err == nil, err
	}
	return false, nil
}
