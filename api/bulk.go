package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Limits of bulk writes.
const (
	// MaxBulkLine is the most bytes that one line may have: the longest name,
	// metadata and origins fit, escapes included.
	MaxBulkLine = 128 << 10
	// MaxBulkChunk is the most lines that are decided together.
	MaxBulkChunk = 1024
)

// BulkLine is one line of a bulk write: keep a CID, or what a path leads to,
// or let go of it. Its JSON is {"cid":…, options…}, {"path":…, options…} or
// {"unpin": CID or path}.
type BulkLine struct {
	Line    int    // number in the input, from 1
	Cid     Cid    // undefined: Path says what it is about
	Path    string // begins with /ipfs/, /ipns/ or /ipld/
	Unpin   bool
	Options PinOptions
	// Import, when set, says that the pin comes from an export. It has no JSON.
	Import *Import
	// Revision, when set, is that of the pin that is to go: an unpin leaves any
	// other as it is. It has no JSON.
	Revision uint64
	// RequestID makes a repeat of the line safe, as that of PinRequest does.
	RequestID string
	// Err, when set, is what is wrong with the line: it is answered, in its
	// place, and not carried out.
	Err *Error
}

// Import is what an export says of a pin besides its options, of which
// PinUpdate is no wish here but a note that is kept.
type Import struct {
	Timestamp   time.Time // zero: now
	Allocations []peer.ID // they hold as far as they are members
}

// bulkJSON are the keys of a line. A pin as the listings show it is a line too:
// what the cluster decides is read and left aside.
type bulkJSON struct {
	Unpin string `json:"unpin"`
	Path  string `json:"path"`
	Cid   string `json:"cid"`
	PinOptions
	Type     PinType `json:"type"`
	MaxDepth *int    `json:"max_depth"`

	Allocations any `json:"allocations"`
	Reference   any `json:"reference"`
	Timestamp   any `json:"timestamp"`
	Revision    any `json:"revision"`

	// Origins hides the field of PinOptions, which does not read itself.
	Origins []string `json:"origins"`
	// UnmarshalJSON hides that of PinOptions, which would read the whole line.
	UnmarshalJSON struct{} `json:"-"`
}

// UnmarshalJSON reads a line; the options are checked. All errors have code
// invalid. Unknown keys are refused: a misspelt one would be a wish that nobody
// heard.
func (l *BulkLine) UnmarshalJSON(data []byte) error {
	if text, ok := cidAlone(data); ok {
		*l = BulkLine{Line: l.Line, RequestID: l.RequestID}
		return l.name(text)
	}
	var in bulkJSON
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return Errorf(CodeInvalid, "the line is not a JSON object of a pin: %w", jsonReason(err))
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Errorf(CodeInvalid, "something follows the JSON object; one line holds one object")
	}
	named := 0
	for _, text := range []string{in.Unpin, in.Path, in.Cid} {
		if text != "" {
			named++
		}
	}
	if named != 1 {
		return Errorf(CodeInvalid, `a line has one of "cid", "path" and "unpin"`)
	}
	if in.Type != "" && in.Type != TypeData {
		return Errorf(CodeInvalid, "the type is %q; only pins of type %q can be made", in.Type, TypeData)
	}
	*l = BulkLine{Line: l.Line, RequestID: l.RequestID, Unpin: in.Unpin != ""}
	if err := l.name(in.Unpin + in.Path + in.Cid); err != nil {
		return err
	}
	if l.Unpin {
		return nil
	}
	l.Options = in.PinOptions
	if l.Options.Mode == "" && in.MaxDepth != nil && *in.MaxDepth == 0 {
		l.Options.Mode = ModeDirect
	}
	var err error
	if l.Options.Origins, err = ParseOrigins(in.Origins); err != nil {
		return err
	}
	return l.Options.Validate()
}

// cidAlone returns the CID's text of a line that has nothing else, as most of a
// large write have, and that needs no JSON to be read. It is false for any other.
func cidAlone(data []byte) (text string, ok bool) {
	data, begins := bytes.CutPrefix(data, []byte(`{"cid":"`))
	data, ends := bytes.CutSuffix(data, []byte(`"}`))
	for _, c := range data {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return "", false
		}
	}
	return string(data), begins && ends && len(data) > 0
}

func jsonReason(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it ends in the middle of the object")
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("it is a JSON %s", kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("%q cannot be a JSON %s", strings.TrimPrefix(kind.Field, "PinOptions."), kind.Value)
	}
	return err
}

// ParseBulkText reads a line that is only a CID or a path.
func ParseBulkText(text string, unpin bool, options PinOptions) (BulkLine, error) {
	line := BulkLine{Unpin: unpin}
	if !unpin {
		line.Options = options
	}
	return line, line.name(text)
}

// name sets what the line is about. A path of a root alone is its CID.
func (l *BulkLine) name(text string) error {
	if !strings.HasPrefix(text, "/") {
		root, _, deeper := strings.Cut(text, "/")
		id, err := DecodeCid(root)
		if err != nil {
			return err
		}
		if !deeper {
			l.Cid = id
			return nil
		}
		text = "/ipfs/" + text
	}
	parts := strings.SplitN(strings.TrimSuffix(text[1:], "/"), "/", 3)
	if len(parts) < 2 || parts[1] == "" || parts[0] != "ipfs" && parts[0] != "ipld" && parts[0] != "ipns" {
		return Errorf(CodeInvalid, "%q is neither a CID nor a path that begins with /ipfs/, /ipld/ or /ipns/", text)
	}
	if parts[0] != "ipns" {
		id, err := DecodeCid(parts[1])
		if err != nil {
			return err
		}
		if len(parts) == 2 {
			l.Cid = id
			return nil
		}
	}
	l.Path = text
	return nil
}

// MarshalJSON writes the line as UnmarshalJSON reads it. Options that have
// their default are left out.
func (l BulkLine) MarshalJSON() ([]byte, error) { return l.AppendJSON(nil) }

// AppendJSON appends what MarshalJSON returns.
func (l BulkLine) AppendJSON(to []byte) ([]byte, error) {
	w := objectWriter{buf: append(to, '{')}
	switch subject := l.Path; {
	case l.Unpin && l.Cid.Defined():
		w.put("unpin", l.Cid, true)
	case l.Unpin:
		w.put("unpin", subject, true)
	case l.Cid.Defined():
		w.put("cid", l.Cid, true)
	default:
		w.put("path", subject, true)
	}
	if !l.Unpin {
		o := l.Options
		w.put("name", o.Name, o.Name != "")
		w.put("mode", o.Mode, o.Mode != "")
		w.put("replication_factor_min", o.ReplicationFactorMin, o.ReplicationFactorMin != 0)
		w.put("replication_factor_max", o.ReplicationFactorMax, o.ReplicationFactorMax != 0)
		w.put("shard_size", o.ShardSize, o.ShardSize != 0)
		w.put("user_allocations", o.UserAllocations, len(o.UserAllocations) > 0)
		w.put("expire_at", o.ExpireAt, !o.ExpireAt.IsZero())
		w.put("metadata", o.Metadata, len(o.Metadata) > 0)
		w.put("pin_update", o.PinUpdate, o.PinUpdate.Defined())
		w.put("origins", o.Origins, len(o.Origins) > 0)
	}
	return append(w.buf, '}'), w.err
}

// objectWriter writes the keys of a JSON object.
type objectWriter struct {
	buf []byte
	err error
}

func (w *objectWriter) put(key string, value any, present bool) {
	if !present || w.err != nil {
		return
	}
	if w.buf[len(w.buf)-1] != '{' {
		w.buf = append(w.buf, ',')
	}
	w.buf = append(append(append(w.buf, '"'), key...), '"', ':')
	if id, ok := value.(Cid); ok { // its text needs no escapes
		w.buf = append(append(append(w.buf, '"'), id.Cid.String()...), '"')
		return
	}
	data, err := json.Marshal(value)
	w.buf, w.err = append(w.buf, data...), err
}

// BulkResult is what became of a line: the stored pin (of an unpin: the pin as
// it was) and the log index that a reader can wait for, or an error.
type BulkResult struct {
	Line  int
	Cid   Cid
	Pin   Pin
	Index uint64
	Err   *Error
}

// Under returns options with what they leave open taken from o.
func (o PinOptions) Under(options PinOptions) PinOptions {
	if options.Name == "" {
		options.Name = o.Name
	}
	if options.Mode == "" {
		options.Mode = o.Mode
	}
	if options.ReplicationFactorMin == 0 && options.ReplicationFactorMax == 0 {
		options.ReplicationFactorMin, options.ReplicationFactorMax = o.ReplicationFactorMin, o.ReplicationFactorMax
	}
	if len(options.UserAllocations) == 0 {
		options.UserAllocations = o.UserAllocations
	}
	if options.ExpireAt.IsZero() {
		options.ExpireAt = o.ExpireAt
	}
	if len(options.Metadata) == 0 {
		options.Metadata = o.Metadata
	}
	return options
}
