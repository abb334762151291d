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
	// Part says that lines of the export were taken out or moved: that its end is
	// stated and missing is no fault then.
	Part bool
	// Skip is called with what is an object and cannot be a pin, as it came; nil:
	// such an entry is refused. What is no object is damage, and refused anyway.
	Skip func(text []byte) error
	// Change is called with each pin that was read; nil: nothing is changed.
	Change func(*api.Pin)
}

// Summary tells what was read.
type Summary struct {
	Pins    uint64 // handed on
	Expired uint64 // left out, because their time was over
	Shards  uint64 // left out, because a pin of their root covers them
	Skipped uint64 // left out, because they cannot be pins; or they could be, with Rules.Skip
	// Warnings are what was read and not understood, once each.
	Warnings []string
}

// Read calls each with the pins of an export, gzipped or not, and the lines that
// they begin in, counted from 1. An export is any stream of JSON objects: one a
// line, printed over several lines, or one array of them. It reads to the end
// also when lines are bad, or when the export states its end and that is missing,
// and then returns an error with code invalid that names them, up to a limit. An
// error of each ends it at once. Memory is constant.
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
			r.checkEnd()
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
	begun    int // the entry in which an export began that states its end; 0: none is open
}

// follow notes where exports that state their end begin and end. Several may
// stand one behind the other.
func (r *reader) follow(given map[string]json.RawMessage) {
	if _, ok := given[fieldBegins]; ok {
		r.checkEnd()
		r.begun = r.values
	}
	var pins int
	if raw, ok := given[fieldEnds]; ok && r.begun > 0 {
		if has := r.values - r.begun + 1; json.Unmarshal(raw, &pins) != nil || pins != has {
			r.incomplete(fmt.Errorf("the export had %s pins when it was written, and here are %d", raw, has))
		}
		r.begun = 0
	}
}

// checkEnd looks whether an export that states its end is open.
func (r *reader) checkEnd() {
	if r.begun > 0 {
		r.incomplete(errors.New("the export does not end as it says that it will"))
	}
}

func (r *reader) incomplete(err error) {
	if !r.rules.Part {
		r.problem(fmt.Errorf("%w: it was cut off, or lines were taken out; if that is meant, give --part", err))
	}
}

// mark is the last line of a list of the REST API, if its client asked for one.
type mark struct {
	End   bool
	Error *struct{ Message string }
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

// take handles one line. The error is that of each, or of Skip.
func (r *reader) take(text []byte, each func(int, api.Pin) error) error {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(text, &given); err != nil {
		r.problem(fmt.Errorf("it is no JSON object: %w", err))
		return nil
	}
	r.follow(given)
	var end mark
	if _, pin := given["cid"]; !pin && json.Unmarshal(text, &end) == nil && end.End {
		r.values--
		if end.Error != nil {
			r.problem(fmt.Errorf("the peer could not give the whole list: %s", end.Error.Message))
		}
		return nil
	}
	pin, err := r.decode(text, given)
	if err != nil {
		r.summary.Skipped++
		if r.rules.Skip != nil {
			return r.rules.Skip(text)
		}
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
	"expire_at", "metadata", "pin_update", "origins", "cid", "type", "allocations", "max_depth", "reference", "timestamp", "revision", fieldBegins, fieldEnds}

func (r *reader) decode(text []byte, given map[string]json.RawMessage) (api.Pin, error) {
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
