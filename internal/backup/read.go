package backup

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"holdfast/api"
)

const (
	// maxLine bounds a line: the largest pin that is accepted has some 30 KiB.
	maxLine = 1 << 20
	// maxProblems is how many bad lines are told of one by one.
	maxProblems = 20
)

// Rules say how lines become pins.
type Rules struct {
	// Now is the time at which pins must not have expired; zero: they may.
	Now time.Time
	// Whole turns what the incumbent cut into shards into ordinary pins of the
	// same root: its meta pins become pins, and the shards and their DAG, which
	// those cover, are left out. Without it such lines are refused.
	Whole bool
	// Change is called with each pin that was read; nil: nothing is changed.
	Change func(*api.Pin)
}

// Summary tells what was read.
type Summary struct {
	Pins    uint64 // handed on
	Expired uint64 // left out, because their time was over
	Shards  uint64 // left out, because a pin of their root covers them
	// Warnings are what was read and not understood, once each.
	Warnings []string
}

// Read calls each with the pins of an export, gzipped or not, and the lines that
// they begin in, counted from 1. An export is any stream of JSON objects: one a
// line, printed over several lines, or one array of them. It reads to the end also when lines are bad, and then returns
// an error with code invalid that names them, up to a limit. An error of each
// ends it at once. Memory is constant.
func Read(in io.Reader, rules Rules, each func(line int, pin api.Pin) error) (Summary, error) {
	r := reader{rules: rules}
	plain, err := unpack(in)
	if err != nil {
		return r.summary, err
	}
	cut := newCutter(bufio.NewReaderSize(plain, 64<<10))
	for {
		text, line, err := cut.next()
		r.line = line
		switch {
		case errors.Is(err, io.EOF):
			return r.summary, r.refusal()
		case errors.Is(err, errLongLine) || errors.Is(err, errOpenArray):
			r.values++
			r.problem(err)
		case err != nil:
			return r.summary, damaged(line, err)
		default:
			r.values++
			if problem := r.take(text, each); problem != nil {
				return r.summary, problem
			}
		}
	}
}

// unpack looks whether the input is compressed.
func unpack(in io.Reader) (io.Reader, error) {
	buffered := bufio.NewReaderSize(in, 64<<10)
	magic, err := buffered.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the export: %w", err)
	}
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return buffered, nil
	}
	packed, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, damaged(1, err)
	}
	return packed, nil
}

func damaged(line int, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) {
		return api.Errorf(api.CodeInvalid, "the compressed file is damaged or cut off at line %d: %w", line, err)
	}
	return fmt.Errorf("read the export at line %d: %w", line, err)
}

var errLongLine = fmt.Errorf("it has more than %d bytes", maxLine)

// reader is the state of one Read.
type reader struct {
	rules    Rules
	line     int
	values   int
	summary  Summary
	problems []string
	bad      int
}

func (r *reader) problem(err error) {
	r.bad++
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, fmt.Sprintf("line %d: %v", r.line, err))
	}
}

func (r *reader) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	// The texts say no line, so there are few.
	if !slices.Contains(r.summary.Warnings, text) && len(r.summary.Warnings) < maxProblems {
		r.summary.Warnings = append(r.summary.Warnings, text)
	}
}

// refusal is what the problems come to.
func (r *reader) refusal() error {
	if r.bad == 0 {
		return nil
	}
	text := strings.Join(r.problems, "\n")
	if more := r.bad - len(r.problems); more > 0 {
		text += fmt.Sprintf("\nand %d more", more)
	}
	return api.Errorf(api.CodeInvalid, "%d of %d entries cannot be imported:\n%s", r.bad, r.values, text)
}

// take handles one line. The error is that of each.
func (r *reader) take(text []byte, each func(int, api.Pin) error) error {
	pin, err := r.decode(text)
	if err != nil {
		r.problem(err)
		return nil
	}
	switch {
	case pin.Type == api.TypeShard || pin.Type == api.TypeClusterDAG:
		r.summary.Shards++
		return nil
	case !r.rules.Now.IsZero() && pin.Expired(r.rules.Now):
		r.summary.Expired++
		return nil
	}
	pin.Type = api.TypeData
	if r.rules.Change != nil {
		r.rules.Change(&pin)
		if err := pin.Validate(); err != nil {
			r.problem(err)
			return nil
		}
	}
	r.summary.Pins++
	return each(r.line, pin)
}

// fields are those that a line may have; further ones are passed over, with a
// warning, as those of a later version.
var fields = []string{"replication_factor_min", "replication_factor_max", "name", "mode", "shard_size", "user_allocations",
	"expire_at", "metadata", "pin_update", "origins", "cid", "type", "allocations", "max_depth", "reference", "timestamp", "revision"}

func (r *reader) decode(text []byte) (api.Pin, error) {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(text, &given); err != nil {
		return api.Pin{}, fmt.Errorf("it is no JSON object: %w", err)
	}
	for name := range given {
		if !slices.Contains(fields, name) {
			r.warn("the field %q is not known to this version and is left out", name)
		}
	}
	var pin api.Pin
	if err := json.Unmarshal(text, &pin); err != nil {
		return pin, err
	}
	if !pin.Cid.Defined() {
		return pin, errors.New(`it has no "cid"`)
	}
	if err := pin.Validate(); err != nil {
		return pin, err
	}
	pin.Reference = nil // joined the parts of what was cut into shards
	var depth int
	if raw, ok := given["max_depth"]; ok && json.Unmarshal(raw, &depth) == nil && depth > 0 && pin.Type == api.TypeData {
		r.warn("pins with a max_depth above 0 are kept whole")
	}
	switch pin.Type {
	case api.TypeData:
	case api.TypeMeta, api.TypeClusterDAG, api.TypeShard:
		if !r.rules.Whole {
			return pin, fmt.Errorf("%s is of type %s, a part of content that ipfs-cluster cut into shards, which is not offered here; with --unshard such content is kept whole on each of its peers", pin.Cid, pin.Type)
		}
		if pin.Type == api.TypeMeta {
			pin.Mode, pin.MaxDepth = api.ModeRecursive, api.ModeRecursive.MaxDepth()
		}
	default:
		return pin, fmt.Errorf("%s is of the type %q, which is none", pin.Cid, pin.Type)
	}
	return pin, nil
}
