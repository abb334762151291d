package main

import (
	"crypto/tls"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"holdfast/api"
	"holdfast/client"
)

func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "host", Aliases: []string{"l"}, Value: client.DefaultAddr, EnvVars: []string{"CLUSTER_CTL_HOST"}, Usage: "`ADDRESSES` of peers, multiaddrs or URLs joined by commas, tried in order"},
		&cli.BoolFlag{Name: "https", Aliases: []string{"s"}, Usage: "use TLS"},
		&cli.BoolFlag{Name: "no-check-certificate", Usage: "accept any certificate (for tests: it makes TLS worthless)"},
		&cli.StringFlag{Name: "encoding", Aliases: []string{"enc"}, Value: "text", Usage: "`FORMAT` of the output: text or json"},
		&cli.GenericFlag{Name: "timeout", Aliases: []string{"t"}, Value: new(seconds), Usage: "`SECONDS` to wait for an answer; 0: no limit"},
		&cli.BoolFlag{Name: "debug", Aliases: []string{"d"}, Usage: "tell on the error stream what is asked of whom"},
		&cli.BoolFlag{Name: "consistent", Usage: "show all that any peer acknowledged before; needs a leader"},
		&cli.Uint64Flag{Name: "wait-index", Usage: "show all up to this log `INDEX`, such as that of a write; waits for it"},
		&cli.StringFlag{Name: "basic-auth", EnvVars: []string{"CLUSTER_CREDENTIALS"}, Usage: "`USER:PASSWORD`, or in the file that $CLUSTER_CREDENTIALS_FILE names; uses TLS unless --force-http"},
		&cli.StringFlag{Name: "token", EnvVars: []string{"CLUSTER_TOKEN"}, Usage: "access `TOKEN`; uses TLS unless --force-http"},
		&cli.BoolFlag{Name: "force-http", Aliases: []string{"f"}, EnvVars: []string{"CLUSTER_FORCE_HTTP"}, Usage: "send credentials without TLS"},
	}
}

// before turns the global flags into a client, before any command runs.
func (p *program) before(c *cli.Context) error {
	switch encoding := c.String("encoding"); encoding {
	case "text":
	case "json":
		p.json = true
	default:
		return usagef("unknown encoding %q; it is text or json", encoding)
	}
	config := client.Config{Token: c.String("token"), HTTPS: c.Bool("https"), Timeout: timeoutFlag(c),
		Read: api.ReadPoint{Consistent: c.Bool("consistent"), Index: c.Uint64("wait-index")}}
	for _, addr := range strings.Split(c.String("host"), ",") {
		config.Addrs = append(config.Addrs, strings.TrimSpace(addr))
	}
	credentials, err := basicAuth(c)
	if err != nil {
		return err
	}
	if credentials != "" {
		config.User, config.Password, _ = strings.Cut(credentials, ":")
		if config.User == "" {
			return usagef("--basic-auth has no user; give USER:PASSWORD")
		}
	}
	if (config.User != "" || config.Token != "") && !c.Bool("force-http") {
		config.HTTPS = true
	}
	if c.Bool("no-check-certificate") {
		config.TLS = &tls.Config{InsecureSkipVerify: true}
	}
	if c.Bool("debug") {
		config.HTTPClient = p.debugClient(config)
	}
	if p.cluster, err = client.New(config); err != nil {
		return usagef("--host: %v", err)
	}
	return nil
}

// basicAuth returns USER:PASSWORD from flag, environment or file. The file may
// be that of the peer's http.users: the first user counts.
func basicAuth(c *cli.Context) (string, error) {
	path := os.Getenv("CLUSTER_CREDENTIALS_FILE")
	if c.IsSet("basic-auth") || c.IsSet("token") || path == "" {
		return c.String("basic-auth"), nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", usagef("CLUSTER_CREDENTIALS_FILE: %v", err)
	}
	text := strings.TrimSpace(strings.TrimPrefix(string(data), "\ufeff"))
	if strings.HasPrefix(text, "{") {
		return "", usagef("CLUSTER_CREDENTIALS_FILE: %s is JSON; name a file with user:password", path)
	}
	first, _, _ := strings.Cut(text, "\n")
	// Users may also be separated by commas, where passwords hold none.
	if before, after, ok := strings.Cut(first, ","); ok && strings.Contains(after, ":") {
		first = before
	}
	return strings.TrimSpace(first), nil
}

func timeoutFlag(c *cli.Context) time.Duration {
	if s, ok := c.Generic("timeout").(*seconds); ok {
		return time.Duration(*s)
	}
	return 0
}
