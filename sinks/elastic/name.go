package elastic

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"weir/buffer"
	"weir/sinks/template"
)

// A name is the template of an index or data stream.
type name struct {
	text *template.Template
	// fixed is the whole name where there is no placeholder.
	fixed string
}

// parseName reads a template. That it has no way to write a brace that stands
// for itself does no harm: no legal index name needs one.
func parseName(s string) (name, error) {
	t, err := template.Parse(s)
	if err != nil {
		return name{}, err
	}
	n := name{text: t}
	if text, ok := t.Constant(); ok {
		if text == "" {
			return name{}, errors.New("empty name")
		}
		n.fixed = strings.ToLower(text)
		if fault := illegalName([]byte(n.fixed), true); fault != "" {
			return name{}, fmt.Errorf("name %q: %s", n.fixed, fault)
		}
	}
	return n, nil
}

// append appends the name for r, in lower case.
//
// The error says what is wrong with the name; it quotes the name only where that
// cannot hold content of the event, or quote is set.
func (n *name) append(dst []byte, r *buffer.Record, quote bool) ([]byte, error) {
	start := len(dst)
	dst, err := n.text.Append(dst, r)
	if err != nil {
		return dst, err
	}
	var fault string
	if got := dst[start:]; !utf8.Valid(got) {
		fault = "not valid UTF-8"
	} else {
		if !isLower(got) {
			dst = append(dst[:start], bytes.ToLower(got)...)
		}
		fault = illegalName(dst[start:], !n.text.BeginsWithEvent())
	}
	switch {
	case fault == "":
		return dst, nil
	case n.text.NeedsEvent() && !quote:
		return dst, fmt.Errorf("index name: %s", fault)
	default:
		return dst, fmt.Errorf("index name %q: %s", cut(dst[start:], maxName), fault)
	}
}

// cut is b, or its first n bytes where it is longer.
func cut(b []byte, n int) []byte {
	if len(b) > n {
		return b[:n]
	}
	return b
}

func isLower(b []byte) bool {
	for _, c := range b {
		if c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// maxName is how many bytes the name of an index or data stream may have.
const maxName = 255

// illegalName says what Elasticsearch would not take in a lower-case name, empty
// when it is legal: MetadataCreateIndexService.validateIndexOrAliasName. A
// leading dot marks hidden and system indices; one that came out of an event is
// not taken.
func illegalName(n []byte, dot bool) string {
	switch {
	case len(n) == 0:
		return "empty"
	case len(n) > maxName:
		return fmt.Sprintf("longer than %d bytes", maxName)
	case n[0] == '-' || n[0] == '_' || n[0] == '+':
		return "must not start with -, _ or +"
	case n[0] == '.' && !dot:
		return "must not start with a dot that comes from an event"
	case string(n) == "." || string(n) == "..":
		return "must not be . or .."
	}
	for _, c := range n {
		if strings.IndexByte(`\/*?"<>| ,#:`, c) >= 0 {
			return fmt.Sprintf("holds %q", rune(c))
		}
	}
	// Elasticsearch takes these, and whoever reads the name is misled: control
	// characters, what turns the direction of writing, what has no width.
	if i := bytes.IndexFunc(n, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		return "holds a control character, or another that cannot be seen"
	}
	return ""
}
