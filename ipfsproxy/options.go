package ipfsproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/api"
	"holdfast/internal/kuborpc"
)

// kind is the type of an option, by Kubo's name of it.
type kind string

const (
	isBool   kind = "bool"
	isInt    kind = "int"
	isUint   kind = "uint"
	isInt64  kind = "int64"
	isString kind = "string"
)

// option is one that Kubo knows: its name, and another for short.
type option struct {
	name, short string
	kind        kind
}

// globalOptions go with every command. Those that only a command line knows
// are accepted and mean nothing here, as in Kubo.
var globalOptions = []option{
	{"encoding", "enc", isString}, {"timeout", "", isString}, {"stream-channels", "", isBool},
	{"cid-base", "", isString}, {"upgrade-cidv0-in-output", "", isBool},
}

// Lines of a body that carries arguments.
const (
	maxLine     = 64 << 10
	maxBodyArgs = 1 << 20
)

// call is a parsed request.
type call struct {
	request *http.Request
	values  url.Values
	options map[string]string // by full name; those of Kubo have the right type
	args    []string
	upload  *multipart.Reader // nil: the body is no form
}

// parse reads options and arguments as Kubo does, with its messages.
func parse(r *http.Request, route route) (*call, error) {
	c := &call{request: r, values: r.URL.Query(), options: make(map[string]string)}
	known := make(map[string]option)
	for _, o := range slices.Concat(globalOptions, route.options) {
		known[o.name] = o
		if o.short != "" {
			known[o.short] = o
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.values)) {
		if err := c.take(name, known); err != nil {
			return nil, err
		}
	}
	if text := c.text("timeout"); text != "" {
		if _, err := time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("option \"timeout\": %w", err)
		}
	}
	c.args = c.values["arg"]
	return c, c.readBody(route)
}

// checkEncoding refuses forms of answers that are not offered.
func (c *call) checkEncoding() error {
	switch c.text("encoding") {
	case "", "json", "text":
		return nil
	}
	return fmt.Errorf("invalid encoding: %s", c.text("encoding"))
}

// take checks one query parameter against the options.
func (c *call) take(name string, known map[string]option) error {
	values := c.values[name]
	o, ok := known[name]
	if !ok {
		c.options[name] = values[0]
		return nil
	}
	if len(values) > 1 {
		return fmt.Errorf("expected key %s to have only a single value, received %v", o.name, values)
	}
	if !o.fits(values[0]) {
		shown := fmt.Sprintf("value %q", values[0])
		if values[0] == "" {
			shown = "empty value"
		}
		return fmt.Errorf("could not convert %s to type %q (for option %q)", shown, o.kind, "-"+o.name)
	}
	c.options[o.name] = values[0]
	return nil
}

func (o option) fits(text string) bool {
	var err error
	switch o.kind {
	case isBool:
		_, err = kuborpc.ParseBool(text)
	case isInt:
		_, err = strconv.ParseInt(text, 0, 32)
	case isUint:
		_, err = strconv.ParseUint(text, 0, 32)
	case isInt64:
		_, err = strconv.ParseInt(text, 0, 64)
	}
	return err == nil
}

// readBody opens the form of a command that takes a file, or reads the
// arguments of one that takes lines, and checks that nothing is missing.
func (c *call) readBody(route route) error {
	media, params, _ := mime.ParseMediaType(c.request.Header.Get("Content-Type"))
	if media == "multipart/form-data" {
		if params["boundary"] == "" {
			return http.ErrMissingBoundary
		}
		c.upload = multipart.NewReader(c.request.Body, params["boundary"])
	}
	if route.file != "" && c.upload == nil {
		return fmt.Errorf("file argument '%s' is required", route.file)
	}
	if route.stdin && c.upload != nil {
		if err := c.readArgs(); err != nil {
			return err
		}
	}
	if len(c.args) < len(route.args) {
		return fmt.Errorf("argument %q is required", route.args[len(c.args)])
	}
	return nil
}

// readArgs takes every line of the first file of the body as an argument.
func (c *call) readArgs() error {
	part, err := c.upload.NextPart()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(io.LimitReader(part, maxBodyArgs+1))
	lines.Buffer(nil, maxLine)
	size := 0
	for lines.Scan() {
		if size += len(lines.Bytes()) + 1; size > maxBodyArgs {
			return fmt.Errorf("the arguments in the body are over %d bytes; send them in several requests", maxBodyArgs)
		}
		if line := strings.TrimSuffix(lines.Text(), "\r"); line != "" {
			c.args = append(c.args, line)
		}
	}
	return lines.Err()
}

// deadline bounds the command by its timeout option.
func (c *call) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if timeout, err := time.ParseDuration(c.text("timeout")); err == nil {
		return context.WithTimeout(ctx, timeout)
	}
	return context.WithCancel(ctx)
}

func (c *call) given(name string) bool { _, ok := c.options[name]; return ok }

func (c *call) text(name string) string { return c.options[name] }

// on reads a switch; parse has checked it.
func (c *call) on(name string, absent bool) bool {
	if !c.given(name) {
		return absent
	}
	value, err := kuborpc.ParseBool(c.text(name))
	return err == nil && value
}

// integer reads a number; parse has checked it.
func (c *call) integer(name string, absent int) int {
	value, err := strconv.ParseInt(c.text(name), 0, 64)
	if err != nil {
		return absent
	}
	return int(value)
}

// unsupported refuses an option that a cluster cannot honour.
func unsupported(name, instead string) error {
	return api.Errorf(api.CodeUnsupported, "option %q is not offered by a cluster: %s", name, instead)
}
