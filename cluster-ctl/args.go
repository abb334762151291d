package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts flags where the parser wants them, so that people may write
// them anywhere: "status CID --enc json" becomes "--enc json status CID". A
// flag belongs to the command when the command has one of that name, else to
// the program. What nobody knows is left with the command, whose parser
// refuses it by name. "--" ends the flags, and "-" alone is an argument.
func arrange(app *cli.App, args []string) []string {
	if len(args) < 2 || completing(args) {
		return args
	}
	globals := flagTable(app.Flags)
	path, flags, local, rest := []string{}, []string{}, []string{}, []string{}
	commands, own := app.Commands, map[string]bool{}
	tail := args[1:]
	for len(tail) > 0 {
		arg := tail[0]
		tail = tail[1:]
		if arg == "--" {
			rest = append(rest, tail...)
			break
		}
		if arg == "-" || !strings.HasPrefix(arg, "-") {
			if next := commandNamed(commands, arg); next != nil && len(rest) == 0 {
				path = append(path, arg)
				commands, own = next.Subcommands, flagTable(next.Flags)
				continue
			}
			rest = append(rest, arg)
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		takes, isOwn := own[name]
		global, isGlobal := globals[name]
		target := &local
		if !isOwn && (isGlobal || len(path) == 0) {
			target, takes = &flags, global
		}
		*target = append(*target, arg)
		if takes && !hasValue && len(tail) > 0 {
			*target = append(*target, tail[0])
			tail = tail[1:]
		}
	}
	out := append([]string{args[0]}, flags...)
	out = append(out, path...)
	out = append(out, local...)
	if len(rest) > 0 && (len(path) > 0 || strings.HasPrefix(rest[0], "-")) {
		out = append(out, "--")
	}
	return append(out, rest...)
}

// completing says whether a shell asks what could come next.
func completing(args []string) bool {
	return args[len(args)-1] == "--generate-bash-completion"
}

// flagTable tells for each name of the flags whether a value follows it.
func flagTable(flags []cli.Flag) map[string]bool {
	table := map[string]bool{"help": false, "h": false}
	for _, f := range flags {
		documented, ok := f.(cli.DocGenerationFlag)
		for _, name := range f.Names() {
			table[name] = ok && documented.TakesValue()
		}
	}
	return table
}

func commandNamed(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}
