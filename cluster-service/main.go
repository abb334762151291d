package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends the process at once: the first has asked nicely.
	context.AfterFunc(ctx, stop)
	p := program{in: os.Stdin, out: os.Stdout, err: os.Stderr, environment: os.LookupEnv, environ: os.Environ}
	if err := p.app().RunContext(ctx, tokenLast(os.Args)); err != nil {
		fmt.Fprintln(os.Stderr, "cluster-service:", err)
		os.Exit(1)
	}
}
