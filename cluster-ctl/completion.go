package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

const bashCompletion = `_cluster_ctl() {
    local cur="${COMP_WORDS[COMP_CWORD]}" words=("${COMP_WORDS[@]:0:COMP_CWORD}")
    case "$cur" in -*) words+=("$cur") ;; esac
    COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o bashdefault -o default -F _cluster_ctl cluster-ctl
`

const zshCompletion = `#compdef cluster-ctl
_cluster_ctl() {
    local -a options request
    local current="${words[CURRENT]}"
    request=("${(@)words[1,CURRENT-1]}")
    if [[ "$current" == -* ]]; then request+=("$current"); fi
    options=("${(@f)$("${request[@]}" --generate-bash-completion 2>/dev/null)}")
    if [[ -n "${options[1]}" ]]; then _describe 'cluster-ctl' options; else _files; fi
}
compdef _cluster_ctl cluster-ctl
`

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print a script that lets the shell complete commands and flags",
		ArgsUsage: "bash|zsh|fish",
		Description: "bash: source <(cluster-ctl completion bash)\n" +
			"zsh:  source <(cluster-ctl completion zsh)\n" +
			"fish: cluster-ctl completion fish | source",
		Action: func(c *cli.Context) error {
			shell, err := oneArg(c, "shell")
			if err != nil {
				return err
			}
			script := ""
			switch shell {
			case "bash":
				script = bashCompletion
			case "zsh":
				script = zshCompletion
			case "fish":
				if script, err = c.App.ToFishCompletion(); err != nil {
					return fmt.Errorf("make the completion for fish: %w", err)
				}
			default:
				return usagef("unknown shell %q; the shells are bash, zsh and fish", shell)
			}
			_, err = fmt.Fprint(c.App.Writer, script)
			return err
		},
	}
}
