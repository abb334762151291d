package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// What others chose, names above all, must not act on a terminal nor look like
// lines of ours: escape sequences, carriage returns, and the controls that turn
// the direction of writing are shown as escapes.

// name shows a name, a file's, a pin's or a peer's: as it is if it can be read
// so, else quoted as Go does.
func name(s string) string {
	if strings.HasPrefix(s, `"`) || !printable(s) {
		return strconv.Quote(s)
	}
	return s
}

// sentence shows a message, on one line.
func sentence(s string) string {
	if printable(s) {
		return s
	}
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// sentences shows a message of this program, which may have lines of its own.
func sentences(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = sentence(line)
	}
	return strings.Join(lines, "\n  ")
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// writeJSON writes a value for people and programs.
func writeJSON(w io.Writer, value any) error {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "    ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	if _, err := w.Write(escapeJSON([]byte(text.String()))); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// escapeJSON writes the runes of JSON that cannot be shown as escapes, which
// mean the same. encoding/json does so for those below the space alone.
func escapeJSON(data []byte) []byte {
	shown := true
	for rest := data; len(rest) > 0 && shown; {
		r, size := utf8.DecodeRune(rest)
		shown = escapeless(r, size)
		rest = rest[size:]
	}
	if shown {
		return data
	}
	out := make([]byte, 0, len(data)+64)
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if escapeless(r, size) {
			out = append(out, rest[:size]...)
		} else if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		} else {
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		rest = rest[size:]
	}
	return out
}

// escapeless says whether a rune of JSON may stand as it is. Those below 0x7f do:
// they are part of the text, or of its layout.
func escapeless(r rune, size int) bool {
	return r < 0x7f || unicode.IsPrint(r) && (r != utf8.RuneError || size > 1)
}
