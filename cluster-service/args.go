package main

import (
	"slices"
	"strings"

	"holdfast/internal/daemon"
)

// tokenLast moves the token of `join` behind the flags, so that it may stand
// before them, too: the parser takes what follows it for further arguments.
func tokenLast(args []string) []string {
	if len(args) < 2 || args[1] != "join" {
		return args
	}
	isToken := func(arg string) bool { return arg == "-" || strings.HasPrefix(arg, daemon.TokenPrefix) }
	i := slices.IndexFunc(args, isToken)
	if i < 0 {
		return args
	}
	return append(slices.Delete(slices.Clone(args), i, i+1), args[i])
}
