package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/urfave/cli/v2"

	"holdfast/api"
)

// pinFlags are the wishes for a pin that "add" and "pin add" share.
func pinFlags(replicationAlias ...string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "a `NAME` for the pin"},
		&cli.IntFlag{Name: "replication", Aliases: replicationAlias, Usage: "the number of replicas, both minimum and maximum; -1: every peer"},
		&cli.IntFlag{Name: "replication-min", Aliases: []string{"rmin"}, Usage: "the minimum `NUMBER` of replicas; 0: the cluster's default"},
		&cli.IntFlag{Name: "replication-max", Aliases: []string{"rmax"}, Usage: "the maximum `NUMBER` of replicas; 0: the cluster's default"},
		&cli.StringFlag{Name: "allocations", Aliases: []string{"allocs"}, Usage: "`PEERS` to prefer as holders, IDs joined by commas"},
		expireFlag(),
		&cli.StringSliceFlag{Name: "metadata", Usage: "`KEY=VALUE` to keep with the pin; may be repeated"},
	}
}

// selectFlags select entries of the pinset.
func selectFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "name", Aliases: []string{"n"}, Usage: "only pins of this `NAME`"},
		&cli.StringFlag{Name: "name-prefix", Usage: "only pins whose name begins with `TEXT`"},
		&cli.StringSliceFlag{Name: "meta", Usage: "only pins with this metadata, `KEY=VALUE`; may be repeated, then all must match"},
		&cli.StringFlag{Name: "peer", Usage: "only pins that the peer with this `ID` shall hold"},
		&cli.StringFlag{Name: "created-after", Usage: "only pins later than `TIME`, such as 2030-01-31T12:00:00Z, or unix seconds"},
		&cli.StringFlag{Name: "created-before", Usage: "only pins earlier than `TIME`"},
		&cli.StringFlag{Name: "after", Usage: "only what follows `CID` in the list: the last of the page before"},
		&cli.UintFlag{Name: "limit", Usage: "at most `NUMBER` results; 0: all"},
		&cli.BoolFlag{Name: "count", Usage: "tell only how many there are in all, whatever --after and --limit"},
	}
}

// selection reads the flags of selectFlags.
func selection(c *cli.Context) (api.PinFilter, error) {
	f := api.PinFilter{Name: c.String("name"), NamePrefix: c.String("name-prefix"), Limit: int(c.Uint("limit"))}
	pairs, err := keyValues(c.StringSlice("meta"))
	if err != nil {
		return f, err
	}
	f.Meta = pairs
	if len(pairs) < len(c.StringSlice("meta")) {
		return f, usagef("--meta is given twice for one key, which has one value only")
	}
	if text := c.String("peer"); text != "" {
		if f.Peer, err = api.DecodePeer(text); err != nil {
			return f, usagef("%v", err)
		}
	}
	if f.CreatedAfter, err = moment(c, "created-after"); err != nil {
		return f, err
	}
	if f.CreatedBefore, err = moment(c, "created-before"); err != nil {
		return f, err
	}
	if text := c.String("after"); text != "" {
		f.After, err = parseCid(text)
	}
	return f, err
}

// moment reads a flag that is a time: RFC 3339, or unix seconds.
func moment(c *cli.Context, name string) (time.Time, error) {
	text := c.String(name)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := api.ParseTime(text)
	if err != nil {
		return at, usagef("--%s: %v", name, err)
	}
	return at, nil
}

// keyValues reads KEY=VALUE pairs; nil if there are none.
func keyValues(pairs []string) (map[string]string, error) {
	var out map[string]string
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usagef("metadata %q is not KEY=VALUE", pair)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = value
	}
	return out, nil
}

func expireFlag() cli.Flag {
	return &cli.DurationFlag{Name: "expire-in", Usage: "drop the pin after this `TIME`, such as 48h"}
}

// pinOptions reads the flags of pinFlags and checks them.
func pinOptions(c *cli.Context) (api.PinOptions, error) {
	o := api.PinOptions{Mode: api.ModeRecursive, Name: c.String("name"),
		ReplicationFactorMin: c.Int("replication-min"), ReplicationFactorMax: c.Int("replication-max")}
	if c.IsSet("replication") {
		if c.IsSet("replication-min") || c.IsSet("replication-max") {
			return o, usagef("--replication sets minimum and maximum; leave out --replication-min and --replication-max")
		}
		o.ReplicationFactorMin, o.ReplicationFactorMax = c.Int("replication"), c.Int("replication")
	}
	var err error
	if o.UserAllocations, err = parsePeers(c.String("allocations")); err != nil {
		return o, err
	}
	if o.ExpireAt, err = expireAt(c); err != nil {
		return o, err
	}
	if o.Metadata, err = keyValues(c.StringSlice("metadata")); err != nil {
		return o, err
	}
	if mode := c.String("mode"); mode != "" {
		if o.Mode, err = api.ParsePinMode(mode); err != nil {
			return o, usagef("%v", err)
		}
	}
	if err := o.Validate(); err != nil {
		return o, usagef("%v", err)
	}
	return o, nil
}

func expireAt(c *cli.Context) (time.Time, error) {
	if !c.IsSet("expire-in") {
		return time.Time{}, nil
	}
	in := c.Duration("expire-in")
	if in < time.Second {
		return time.Time{}, usagef("--expire-in %s is shorter than a second", in)
	}
	return time.Now().Add(in).UTC().Truncate(time.Second), nil
}

func parsePeers(text string) ([]peer.ID, error) {
	var out []peer.ID
	for _, part := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' }) {
		id, err := api.DecodePeer(strings.TrimSpace(part))
		if err != nil {
			return nil, usagef("%v", err)
		}
		out = append(out, id)
	}
	return out, nil
}

// oneArg returns the only argument of a command.
func oneArg(c *cli.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", usagef("%s takes one %s, got %d arguments", c.Command.HelpName, what, c.NArg())
	}
	return c.Args().First(), nil
}

func noArgs(c *cli.Context) error {
	if c.NArg() != 0 {
		return usagef("%s takes no argument, got %q", c.Command.HelpName, c.Args().First())
	}
	return nil
}

func parseCid(text string) (api.Cid, error) {
	c, err := api.DecodeCid(text)
	if err != nil {
		return c, usagef("%v", err)
	}
	return c, nil
}

// pathArg reads the one argument of a command that takes a CID or a path.
func pathArg(c *cli.Context) (string, error) {
	text, err := oneArg(c, "CID or path")
	if err != nil {
		return "", err
	}
	return parsePath(text)
}

// parsePath reads a CID, a CID with a path below it, or a path that begins
// with /ipfs, /ipns or /ipld, and returns it in its long form.
func parsePath(text string) (string, error) {
	full := text
	if !strings.HasPrefix(full, "/") {
		full = "/ipfs/" + full
	}
	parts := strings.SplitN(strings.TrimPrefix(full, "/"), "/", 3)
	if len(parts) < 2 || parts[1] == "" {
		return "", usagef("%q is not a CID or a path; give one such as bafybei…, /ipfs/bafybei…/file or /ipns/example.com", text)
	}
	switch parts[0] {
	case "ipfs", "ipld":
		if _, err := api.DecodeCid(parts[1]); err != nil {
			return "", usagef("%v", err)
		}
	case "ipns":
	default:
		return "", usagef("the path %q does not begin with /ipfs, /ipns or /ipld", text)
	}
	return full, nil
}

// seconds is a flag value that reads whole seconds, as the incumbent does, or
// a Go duration.
type seconds time.Duration

// Set reads the text of the flag.
func (s *seconds) Set(text string) error {
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		*s = seconds(time.Duration(n) * time.Second)
		return nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is neither seconds nor a duration such as 1m30s", text)
	}
	*s = seconds(d)
	return nil
}

// String returns the duration's text.
func (s *seconds) String() string { return time.Duration(*s).String() }
