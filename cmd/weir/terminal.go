package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// clean is s with what a terminal would obey or not show escaped: errors quote
// brokers, sinks and names that others chose. Line breaks stay.
func clean(s string) string {
	hidden := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	if !strings.ContainsFunc(s, hidden) {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	var b strings.Builder
	for _, r := range s {
		if !hidden(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// cleanLine is clean for what must not end its line.
func cleanLine(s string) string { return strings.ReplaceAll(clean(s), "\n", `\n`) }

// cleanJSON writes JSON to w with what clean would escape escaped as JSON does it:
// encoding/json and log/slog leave most of that as it is. It means the same. Each
// Write takes whole characters, as theirs are.
type cleanJSON struct{ w io.Writer }

func (c cleanJSON) Write(p []byte) (int, error) {
	// What is below is white space, or escaped already.
	hidden := func(r rune) bool { return r >= 0x7f && (r == utf8.RuneError || !unicode.IsPrint(r)) }
	text := p
	if bytes.ContainsFunc(p, hidden) {
		text = make([]byte, 0, len(p)+64)
		for _, r := range string(p) {
			switch high, low := utf16.EncodeRune(r); {
			case !hidden(r):
				text = utf8.AppendRune(text, r)
			case r <= 0xffff:
				text = fmt.Appendf(text, `\u%04x`, r)
			default:
				text = fmt.Appendf(text, `\u%04x\u%04x`, high, low)
			}
		}
	}
	if _, err := c.w.Write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}

// printJSON prints v for people and programs.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(cleanJSON{w})
	e.SetIndent("", "  ")
	return e.Encode(v)
}
