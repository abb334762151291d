package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

const bashCompletion = `_cluster_service() {
    local cur="${COMP_WORDS[COMP_CWORD]}" words=("${COMP_WORDS[@]:0:COMP_CWORD}")
    case "$cur" in -*) words+=("$cur") ;; esac
    COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _cluster_service cluster-service
`

const zshCompletion = `#compdef cluster-service
_cluster_service() {
    local -a options request
    local current="${words[CURRENT]}"
    request=("${(@)words[1,CURRENT-1]}")
    if [[ "$current" == -* ]]; then request+=("$current"); fi
    options=("${(@f)$("${request[@]}" --generate-bash-completion 2>/dev/null)}")
    if [[ -n "${options[1]}" ]]; then _describe 'cluster-service' options; else _files; fi
}
compdef _cluster_service cluster-service
`

// completionCommand prints what makes a shell complete commands and flags.
func (p program) completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that lets the shell complete commands and flags",
		ArgsUsage: "bash|zsh|fish",
		Action: func(c *cli.Context) error {
			script := ""
			switch shell := c.Args().First(); {
			case c.NArg() != 1:
				return fmt.Errorf("give one shell: bash, zsh or fish")
			case shell == "bash":
				script = bashCompletion
			case shell == "zsh":
				script = zshCompletion
			case shell == "fish":
				var err error
				if script, err = c.App.ToFishCompletion(); err != nil {
					return fmt.Errorf("make the completion for fish: %w", err)
				}
			default:
				return fmt.Errorf("unknown shell %q; the shells are bash, zsh and fish", shell)
			}
			_, err := fmt.Fprint(p.out, script)
			return err
		},
	}
}

// manCommand prints the manual page, which `make install` puts in its place.
func (p program) manCommand() *cli.Command {
	return &cli.Command{
		Name:   "man",
		Usage:  "print the manual page",
		Hidden: true,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			page, err := c.App.ToManWithSection(8)
			if err != nil {
				return fmt.Errorf("make the manual page: %w", err)
			}
			_, err = fmt.Fprint(p.out, page)
			return err
		},
	}
}
