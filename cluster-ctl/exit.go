package main

import (
	"context"
	"errors"
	"fmt"

	"holdfast/api"
)

// The exit codes, which are those of the incumbent.
const (
	exitOK       = 0
	exitHere     = 1   // wrong arguments, no connection, another error on this side
	exitAnswered = 2   // the peer answered with an error
	exitUnknown  = 3   // unknown command
	exitTimeout  = 62  // ETIME: the time to wait is over
	exitCanceled = 125 // ECANCELED: interrupted
)

// usageError says that the command line cannot be carried out as it is.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

type unknownCommandError struct{ message string }

func (e *unknownCommandError) Error() string { return e.message }

// waitTimeoutError says that the user's own time limit passed.
type waitTimeoutError struct{ message string }

func (e *waitTimeoutError) Error() string { return e.message }

// answered says whether the error is what a peer answered. Such an error has
// no cause in this process; one of the connection has.
func answered(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && e.Err == nil
}

func exitCode(ctx context.Context, err error) int {
	var unknown *unknownCommandError
	var timeout *waitTimeoutError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &unknown):
		return exitUnknown
	case errors.As(err, &timeout):
		return exitTimeout
	case ctx.Err() != nil:
		return exitCanceled
	case answered(err):
		return exitAnswered
	}
	return exitHere
}

// errorJSON is an error as --enc json shows it.
type errorJSON struct {
	Code    int      `json:"code"` // HTTP status; 0 when no peer was asked
	Message string   `json:"message"`
	Reason  api.Code `json:"reason"`
}

// report writes an error on the error stream, in the encoding that was asked.
func (p *program) report(err error) {
	if err == nil {
		return
	}
	out := errorJSON{Message: err.Error(), Reason: reasonOf(err)}
	if answered(err) {
		out.Code = out.Reason.HTTPStatus()
	}
	switch {
	case p.json:
		// The error stream is the last resort: there is nowhere to report its failure.
		_ = writeJSON(p.err, out)
	case out.Code != 0:
		fmt.Fprintf(p.err, "An error occurred:\n  Code: %d\n  Message: %s\n", out.Code, sentence(out.Message))
	default:
		fmt.Fprintf(p.err, "cluster-ctl: %s\n", sentences(out.Message))
	}
}

func reasonOf(err error) api.Code {
	var usage *usageError
	var unknown *unknownCommandError
	if errors.As(err, &usage) || errors.As(err, &unknown) {
		return api.CodeInvalid
	}
	var timeout *waitTimeoutError
	if errors.As(err, &timeout) {
		return api.CodeUnavailable
	}
	return api.CodeOf(err)
}
