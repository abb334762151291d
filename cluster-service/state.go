package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/urfave/cli/v2"

	"holdfast/api"
	"holdfast/internal/backup"
	"holdfast/internal/daemon"
)

func (p program) stateCommand() *cli.Command {
	return &cli.Command{
		Name:  "state",
		Usage: "back up, restore and check the pinset",
		Description: "Works with the peer of the folder while it runs, and on its files while it does not.\n" +
			"The files hold one pin a line, as those of ipfs-cluster-service do: either program reads the other's.",
		Subcommands: []*cli.Command{{
			Name:        "export",
			Usage:       "write every pin as a line of JSON",
			Description: "All pins are of one moment. A file appears whole or not at all; one whose name ends in .gz is compressed.",
			Flags: []cli.Flag{dirFlag(), setFlag(),
				&cli.StringFlag{Name: "out", Aliases: []string{"file", "f"}, Value: "-", Usage: "`FILE` to write; - is standard output"}},
			Action: p.onPinset(p.stateExport),
		}, p.stateImportCommand(), {
			Name:        "check",
			Usage:       "compare indexes and counters with the pins, and read log and snapshots of a stopped peer",
			Description: "The exit code is 1 when something is wrong.",
			Flags:       []cli.Flag{dirFlag(), setFlag(), encFlag()},
			Action:      p.onPinset(p.stateCheck),
		}, {
			Name:        "hash",
			Usage:       "print a hash of the pinset and the log index that it is of",
			Description: "Peers of one cluster at the same index have the same hash.",
			Flags:       []cli.Flag{dirFlag(), setFlag(), encFlag()},
			Action:      p.onPinset(p.stateHash),
		}},
	}
}

func encFlag() *cli.StringFlag {
	return &cli.StringFlag{Name: "enc", Value: "text", Usage: "text or json"}
}

// pinset opens the pinset of the folder.
func (p program) pinset(c *cli.Context) (daemon.Pinset, error) {
	settings, err := p.settings(c)
	if err != nil {
		return nil, err
	}
	folder, err := daemon.LoadFolder(c.String("dir"))
	if err != nil {
		return nil, err
	}
	return daemon.OpenPinset(c.Context, folder, daemon.Replication{Min: settings.ReplicationMin, Max: settings.ReplicationMax})
}

// onPinset opens the pinset for a command that takes no arguments.
func (p program) onPinset(do func(*cli.Context, daemon.Pinset) error) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		if err := noArguments(c); err != nil {
			return err
		}
		pinset, err := p.pinset(c)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, pinset.Close()) }()
		return do(c, pinset)
	}
}

func (p program) stateExport(c *cli.Context, pinset daemon.Pinset) error {
	var index, pins uint64
	var notes []string
	show := p.progress("exported")
	write := func(out io.Writer) (err error) {
		w := backup.NewWriter(out)
		notes, err = pinset.Dump(c.Context, func(at uint64) error { index = at; return nil }, func(pin api.Pin) error {
			show(w.Pins, false)
			return w.Write(pin)
		})
		pins = w.Pins
		if err != nil {
			return err // the export must not look whole
		}
		return w.End()
	}
	var err error
	if path := c.String("out"); path == "-" {
		buffered := bufio.NewWriterSize(p.out, 64<<10)
		err = errors.Join(write(buffered), buffered.Flush())
	} else {
		err = backup.WriteFile(vfs.Default, path, write)
	}
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	show(pins, true)
	for _, note := range notes {
		fmt.Fprintln(p.err, "note:", note)
	}
	fmt.Fprintf(p.err, "exported %d pins at index %d\n", pins, index)
	return nil
}

func (p program) stateCheck(c *cli.Context, pinset daemon.Pinset) error {
	answer, err := pinset.Check(c.Context)
	if err != nil {
		return err
	}
	text := fmt.Sprintf("%d pins checked at index %d\n", answer.Checked, answer.Index)
	for _, problem := range answer.Problems {
		text += "wrong: " + problem + "\n"
	}
	for _, note := range answer.Notes {
		text += "note: " + note + "\n"
	}
	if err := p.answer(c, answer, text); err != nil {
		return err
	}
	if n := uint64(len(answer.Problems)) + answer.More; n > 0 {
		return fmt.Errorf("%d problems found; do not go on with this peer: remove it from its cluster with 'cluster-ctl peers rm' and join again with a new folder (docs/backup.md)", n)
	}
	return nil
}

func (p program) stateHash(c *cli.Context, pinset daemon.Pinset) error {
	answer, err := pinset.Hash(c.Context)
	if err != nil {
		return err
	}
	return p.answer(c, answer, fmt.Sprintf("%s at index %d\n", answer.Hash, answer.Index))
}

// answer prints an answer as text or as JSON.
func (p program) answer(c *cli.Context, value any, text string) error {
	switch c.String("enc") {
	case "json":
		encoder := json.NewEncoder(p.out)
		encoder.SetIndent("", "    ")
		return encoder.Encode(value)
	case "text":
		_, err := io.WriteString(p.out, text)
		return err
	}
	return fmt.Errorf("--enc %q: it is text or json", c.String("enc"))
}

// progress returns what shows a count now and then, if a person watches.
func (p program) progress(what string) func(n uint64, last bool) {
	file, ok := p.err.(*os.File)
	if !ok {
		return func(uint64, bool) {}
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return func(uint64, bool) {}
	}
	shown := time.Now()
	return func(n uint64, last bool) {
		if last {
			fmt.Fprint(file, "\r"+strings.Repeat(" ", 40)+"\r")
		} else if now := time.Now(); now.Sub(shown) > time.Second/5 {
			fmt.Fprintf(file, "\r%s %d pins ", what, n)
			shown = now
		}
	}
}
