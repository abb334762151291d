package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
)

// Code says what kind of failure an Error is. Codes cross the wire between
// peers and to clients, so they are only ever added, never renamed.
type Code string

// The codes, each with the sentence that a caller may rely on.
const (
	CodeInvalid        Code = "invalid"          // the request can never succeed as it is
	CodeUnauthorized   Code = "unauthorized"     // no valid credentials
	CodeForbidden      Code = "forbidden"        // valid credentials, but not for this
	CodeNotFound       Code = "not_found"        // the thing that was named does not exist
	CodeNotEnoughPeers Code = "not_enough_peers" // fewer peers can hold the pin than its minimum asks for
	CodeConflict       Code = "conflict"         // somebody changed the pin meanwhile; read it again and decide again
	CodeTooLarge       Code = "too_large"        // the request is over a limit
	CodeRateLimited    Code = "rate_limited"     // too many requests; try again later
	CodeInternal       Code = "internal"         // a fault of ours
	CodeUnsupported    Code = "unsupported"      // this peer knows the request and does not offer it
	CodeNoLeader       Code = "no_leader"        // nothing was logged: there is no leader that could
	CodeUnavailable    Code = "unavailable"      // a peer or a part of one cannot be reached now; nothing was changed
	CodeUnknownOutcome Code = "unknown_outcome"  // leadership was lost in mid-commit; the change may or may not take effect, and repeating the request (same request id) is safe
	CodeNoSpace        Code = "no_space"         // the disk is full, or its reserve is reached
	CodeGone           Code = "gone"             // it was there and is not kept any more; the message says how to go on
)

// statusOf is the one table between codes and HTTP statuses: restapi reads it
// forwards, client reads it backwards.
var statusOf = []struct {
	code   Code
	status int
}{
	{CodeInvalid, http.StatusBadRequest},
	{CodeUnauthorized, http.StatusUnauthorized},
	{CodeForbidden, http.StatusForbidden},
	{CodeNotFound, http.StatusNotFound},
	{CodeNotEnoughPeers, http.StatusConflict},
	{CodeConflict, http.StatusPreconditionFailed},
	{CodeTooLarge, http.StatusRequestEntityTooLarge},
	{CodeRateLimited, http.StatusTooManyRequests},
	{CodeInternal, http.StatusInternalServerError},
	{CodeUnsupported, http.StatusNotImplemented},
	// The first code of a status is what the status alone means.
	{CodeUnavailable, http.StatusServiceUnavailable},
	{CodeNoLeader, http.StatusServiceUnavailable},
	{CodeUnknownOutcome, http.StatusGatewayTimeout},
	{CodeNoSpace, http.StatusInsufficientStorage},
	{CodeGone, http.StatusGone},
}

// Codes are all that there are.
func Codes() []Code {
	out := make([]Code, 0, len(statusOf))
	for _, row := range statusOf {
		out = append(out, row.code)
	}
	return out
}

// HTTPStatus returns the status of a code; an unknown code is a fault of ours.
func (c Code) HTTPStatus() int {
	for _, row := range statusOf {
		if row.code == c {
			return row.status
		}
	}
	return http.StatusInternalServerError
}

// CodeOfHTTPStatus returns the code that a bare HTTP status stands for.
func CodeOfHTTPStatus(status int) Code {
	for _, row := range statusOf {
		if row.status == status {
			return row.code
		}
	}
	if status >= 400 && status < 500 {
		return CodeInvalid
	}
	return CodeInternal
}

// Error is the one error type of the system. It keeps its code from the peer
// where it happened to the user's terminal.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"` // what went wrong and what to do, for a person
	Err     error  `json:"-"`       // the cause; stays in the process
}

// Errorf makes an Error. A %w verb keeps the cause for errors.Is and errors.As.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.Err }

// Is says that two Errors match when their codes do, so that
// errors.Is(err, api.ErrNotFound) works across the wire.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == ""
}

// Targets for errors.Is. They match every Error of their code.
var (
	ErrInvalid        = &Error{Code: CodeInvalid}
	ErrNotFound       = &Error{Code: CodeNotFound}
	ErrNotEnoughPeers = &Error{Code: CodeNotEnoughPeers}
	ErrConflict       = &Error{Code: CodeConflict}
	ErrNoLeader       = &Error{Code: CodeNoLeader}
	ErrUnavailable    = &Error{Code: CodeUnavailable}
	ErrUnknownOutcome = &Error{Code: CodeUnknownOutcome}
	ErrNoSpace        = &Error{Code: CodeNoSpace}
)

// CodeOf returns the code of an error: that of the first Error in its chain,
// unavailable for an ended context, internal for all else, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return CodeUnavailable
	}
	return CodeInternal
}

// AsError turns any error into an Error that can be sent: its code is kept and
// its message is the whole chain's text. AsError(nil) is nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) && e.Message == err.Error() {
		return e
	}
	return &Error{Code: CodeOf(err), Message: err.Error(), Err: err}
}
