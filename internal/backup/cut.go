package backup

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// cutter cuts an export into its JSON objects: one a line, as exports are
// written, or spread over several, or as the elements of one array. What is no
// object ends with its line, so that one bad line spoils no other.
type cutter struct {
	in      *bufio.Reader
	line    int  // at hand, from 1
	start   bool // the next byte is the first of its line
	inArray bool
}

var errOpenArray = errors.New("the array that the export is does not end; it was cut off")

func newCutter(in *bufio.Reader) *cutter { return &cutter{in: in, line: 1, start: true} }

// next returns the next object, or what stands in its place, and the line that
// it begins in. The end is io.EOF.
func (c *cutter) next() (text []byte, line int, err error) {
	for {
		b, err := c.read()
		if errors.Is(err, io.EOF) && c.inArray {
			c.inArray = false
			return nil, c.line, errOpenArray
		}
		if err != nil {
			return nil, c.line, err
		}
		switch {
		case b == ' ' || b == '\t' || b == '\r' || b == '\n':
		case b == '[' && !c.inArray:
			c.inArray = true
		case b == ']' && c.inArray:
			c.inArray = false
		case b == ',' && c.inArray:
		case b == '{':
			return c.object()
		default:
			return c.rest(b)
		}
	}
}

func (c *cutter) read() (byte, error) {
	b, err := c.in.ReadByte()
	if err != nil {
		return 0, err
	}
	c.start = b == '\n'
	if c.start {
		c.line++
	}
	return b, nil
}

// object returns an object whose brace was read. One that does not end is cut
// off at the end of a line that is inside a string, or before a line that
// begins with the brace of another.
func (c *cutter) object() ([]byte, int, error) {
	line, text := c.line, []byte{'{'}
	depth, quoted, escaped, tooLong := 1, false, false, false
	for depth > 0 {
		if c.start && depth > 0 {
			if ahead, err := c.in.Peek(1); err == nil && ahead[0] == '{' {
				break
			}
		}
		b, err := c.read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, line, err
		}
		if tooLong = tooLong || len(text) >= maxLine; !tooLong {
			text = append(text, b)
		}
		if quoted && b == '\n' {
			break
		}
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = b == '\\', b != '"'
		case b == '"':
			quoted = true
		case b == '{' || b == '[':
			depth++
		case b == '}' || b == ']':
			depth--
		}
	}
	if tooLong {
		return nil, line, errLongLine
	}
	return bytes.TrimSpace(text), line, nil
}

// rest returns what is no object, to the end of its line.
func (c *cutter) rest(first byte) ([]byte, int, error) {
	line, text := c.line, []byte{first}
	for {
		b, err := c.read()
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, line, err
		}
		if err != nil || b == '\n' {
			return bytes.TrimSpace(text), line, nil
		}
		if len(text) < maxLine {
			text = append(text, b)
		}
	}
}
