package main

import (
	"strconv"
	"strings"
	"unicode"
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
