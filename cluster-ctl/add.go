package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"holdfast/api"
	"holdfast/client"
)

func (p *program) addCommand() *cli.Command {
	return &cli.Command{
		Name:      "add",
		Usage:     "add files and folders, and pin them",
		ArgsUsage: "PATH...",
		Description: "The CIDs are those that 'ipfs add' gives. The path \"-\" is standard input. Several paths\n" +
			"are wrapped in one folder. Folders nest " + strconv.Itoa(api.MaxAddDepth) + " deep at most.",
		Flags: slices.Concat(addFlags(), pinFlags(), dagFlags()),
		Action: func(c *cli.Context) error {
			params, err := addParams(c)
			if err != nil {
				return err
			}
			a := &adding{program: p, quiet: c.Bool("quiet"), quieter: c.Bool("quieter"), array: c.Bool("no-stream"),
				files: client.Files{Paths: c.Args().Slice(), Recursive: c.Bool("recursive"), Hidden: c.Bool("hidden"), Stdin: p.in}}
			wait := waiting{target: api.StatusPinned, wait: c.Bool("wait") || c.IsSet("wait-timeout"), timeout: c.Duration("wait-timeout")}
			if wait.wait && params.NoPin {
				return usagef("--wait and --no-pin do not go together: nothing would be pinned")
			}
			if a.total, err = a.files.Size(); err != nil {
				return usagef("%v", err)
			}
			if slices.Contains(a.files.Paths, "-") {
				a.total = -1
			}
			if err := a.run(c.Context, params); err != nil || !wait.wait {
				return err
			}
			return a.waitForRoot(c.Context, wait)
		},
	}
}

func addFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "add folders with all that is in them"},
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print CIDs only"},
		&cli.BoolFlag{Name: "quieter", Aliases: []string{"Q"}, Usage: "print the last CID only"},
		&cli.BoolFlag{Name: "no-stream", Usage: "answer and print everything at the end, as one array with --enc json"},
		&cli.BoolFlag{Name: "local", Usage: "write the blocks to the asked peer only; the others fetch them"},
		&cli.BoolFlag{Name: "no-pin", Usage: "write the blocks and pin nothing"},
		&cli.BoolFlag{Name: "wait", Usage: "return when enough peers hold everything"},
		&cli.DurationFlag{Name: "wait-timeout", Aliases: []string{"wt"}, Usage: "how much `TIME` to wait (implies --wait; 0: for ever)"},
		&cli.BoolFlag{Name: "hidden", Aliases: []string{"H"}, Usage: "also add what begins with a dot"},
	}
}

// dagFlags say how files become blocks.
func dagFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "wrap-with-directory", Aliases: []string{"w"}, Usage: "put everything into a folder"},
		&cli.StringFlag{Name: "format", Value: "unixfs", Usage: "`FORMAT` of the input: unixfs, or car for an archive of blocks"},
		&cli.StringFlag{Name: "layout", Value: "balanced", Usage: "`LAYOUT` of the DAG: balanced or trickle"},
		&cli.StringFlag{Name: "chunker", Aliases: []string{"s"}, Value: "size-262144", Usage: "`CHUNKER` that cuts files: size-N, rabin-MIN-AVG-MAX or buzhash"},
		&cli.BoolFlag{Name: "raw-leaves", Usage: "leaves are raw blocks (the default with CID version 1)"},
		&cli.IntFlag{Name: "cid-version", Usage: "CID `VERSION`, 0 or 1"},
		&cli.StringFlag{Name: "hash", Value: "sha2-256", Usage: "`HASH` function; another than sha2-256 goes with CID version 1"},
	}
}

func addParams(c *cli.Context) (api.AddParams, error) {
	p := api.NewAddParams()
	if c.NArg() == 0 {
		return p, usagef("%s needs the path of a file or folder, or - for standard input", c.Command.HelpName)
	}
	var err error
	if p.PinOptions, err = pinOptions(c); err != nil {
		return p, err
	}
	p.Format, p.Layout, p.Chunker, p.HashFun = c.String("format"), c.String("layout"), c.String("chunker"), c.String("hash")
	p.CidVersion, p.RawLeaves = c.Int("cid-version"), c.Bool("raw-leaves")
	p.Local, p.NoPin = c.Bool("local"), c.Bool("no-pin")
	p.StreamChannels = !c.Bool("no-stream")
	p.Wrap = c.Bool("wrap-with-directory") || c.NArg() > 1
	if p.HashFun != "sha2-256" && !c.IsSet("cid-version") {
		p.CidVersion = 1
	}
	if p.CidVersion > 0 && !c.IsSet("raw-leaves") {
		p.RawLeaves = true
	}
	switch {
	case p.Format != "unixfs" && p.Format != "car":
		return p, usagef("unknown format %q; it is unixfs or car", p.Format)
	case p.Layout != "balanced" && p.Layout != "trickle":
		return p, usagef("unknown layout %q; it is balanced or trickle", p.Layout)
	case p.CidVersion != 0 && p.CidVersion != 1:
		return p, usagef("--cid-version %d is neither 0 nor 1", p.CidVersion)
	case p.CidVersion == 0 && p.HashFun != "sha2-256":
		return p, usagef("CID version 0 knows sha2-256 only; leave out --cid-version 0 or --hash %s", p.HashFun)
	case p.Format == "car" && p.Wrap:
		return p, usagef("an archive brings its own root: add one at a time, without --wrap-with-directory")
	}
	return p, nil
}

// adding is one run of the add command.
type adding struct {
	*program
	files          client.Files
	total          int64 // bytes to send; -1: unknown
	quiet, quieter bool
	array          bool

	outputs []api.AddedOutput // with array
	last    api.AddedOutput
}

// run sends everything and shows what comes back.
func (a *adding) run(ctx context.Context, params api.AddParams) error {
	bar := a.newProgress()
	defer bar.close()
	a.files.Progress = bar.set
	err := a.cluster.AddPaths(ctx, a.files, params, func(out api.AddedOutput) error {
		return bar.aside(func() error { return a.output(out) })
	})
	if err != nil {
		return err
	}
	return a.finish()
}

// output shows one file that was added.
func (a *adding) output(out api.AddedOutput) error {
	if !out.Cid.Defined() { // only counts bytes
		return nil
	}
	a.last = out
	if a.quieter {
		return nil
	}
	if a.array {
		a.outputs = append(a.outputs, out)
		return nil
	}
	return show(a.program, out, a.text)
}

func (a *adding) finish() error {
	switch {
	case !a.last.Cid.Defined():
		return errors.New("the peer added nothing")
	case a.quieter:
		return show(a.program, a.last, func(w io.Writer, out api.AddedOutput) { fmt.Fprintln(w, out.Cid) })
	case a.array:
		return show(a.program, a.outputs, func(w io.Writer, outputs []api.AddedOutput) {
			for _, out := range outputs {
				a.text(w, out)
			}
		})
	}
	return nil
}

func (a *adding) text(w io.Writer, out api.AddedOutput) {
	if a.quiet {
		fmt.Fprintln(w, out.Cid)
		return
	}
	file := out.Name
	if file == "" {
		file = out.Cid.String()
	}
	fmt.Fprintf(w, "added %s %s\n", out.Cid, name(file))
}

// waitForRoot returns when the last CID, which is the root of all, is pinned
// on as many peers as its pin needs.
func (a *adding) waitForRoot(ctx context.Context, w waiting) error {
	pin, err := a.cluster.Allocation(ctx, a.last.Cid)
	if err != nil {
		return err
	}
	info, err := a.waitFor(ctx, pin, w)
	if err != nil && info.Cid.Defined() && !a.json {
		textStatus(a.err, info)
	}
	return err
}
