package elastic

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"weir/buffer"
)

// A name is the template of an index or data stream, cut into its parts.
type name struct {
	parts []part
	// fixed is the whole name where there is no placeholder.
	fixed string
	// perRecord: two records of one partition can have different names.
	perRecord bool
	// fractions: it shows parts of a second.
	fractions bool
	// quotes: the name can hold content of the event.
	quotes bool
}

// A part of a name is constant text or a placeholder.
type part struct {
	kind partKind
	text string   // constant text, or the layout of a time
	path []string // of a field
}

type partKind uint8

const (
	partText partKind = iota
	partTopic
	partPartition
	partTime
	partField
)

// parseName reads a template. There is no way to write a brace that stands for
// itself: no legal index name needs one.
func parseName(template string) (name, error) {
	var n name
	rest := template
	for rest != "" {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			n.parts = append(n.parts, part{text: rest})
			break
		}
		if open > 0 {
			n.parts = append(n.parts, part{text: rest[:open]})
		}
		end := strings.IndexAny(rest[open+1:], "{}")
		if rest[open] == '}' || end < 0 || rest[open+1+end] == '{' {
			return name{}, fmt.Errorf("template %q: a brace without its other half", template)
		}
		p, err := parsePlaceholder(rest[open+1 : open+1+end])
		if err != nil {
			return name{}, fmt.Errorf("template %q: %w", template, err)
		}
		n.parts = append(n.parts, p)
		n.perRecord = n.perRecord || p.kind == partTime || p.kind == partField
		n.fractions = n.fractions || p.kind == partTime && showsFractions(p.text)
		n.quotes = n.quotes || p.kind == partField
		rest = rest[open+1+end+1:]
	}
	switch {
	case len(n.parts) == 0:
		return name{}, errors.New("empty name")
	case len(n.parts) == 1 && n.parts[0].kind == partText:
		n.fixed = strings.ToLower(n.parts[0].text)
		if fault := illegalName([]byte(n.fixed), true); fault != "" {
			return name{}, fmt.Errorf("name %q: %s", n.fixed, fault)
		}
	}
	return n, nil
}

func parsePlaceholder(s string) (part, error) {
	switch layout, isTime := strings.CutPrefix(s, "time:"); {
	case s == "topic":
		return part{kind: partTopic}, nil
	case s == "partition":
		return part{kind: partPartition}, nil
	case isTime:
		if layout == "" || !changes(layout) {
			return part{}, fmt.Errorf("{%s}: not a Go time layout such as 2006.01.02", s)
		}
		return part{kind: partTime, text: layout}, nil
	case s == "time":
		return part{}, errors.New("{time} needs a layout, such as {time:2006.01.02}")
	}
	path, err := parsePath(s)
	return part{kind: partField, path: path}, err
}

// showsFractions reports whether layout shows parts of a second.
func showsFractions(layout string) bool {
	at := time.Date(2001, 9, 19, 17, 38, 49, 0, time.UTC)
	return at.Format(layout) != at.Add(123456789).Format(layout)
}

// changes reports whether layout shows anything of a time.
func changes(layout string) bool {
	return time.Date(2001, 9, 19, 17, 38, 49, 123456789, time.UTC).Format(layout) != layout
}

// parsePath reads a dotted path.
func parsePath(s string) ([]string, error) {
	path := strings.Split(s, ".")
	if len(path) > maxPath {
		return nil, fmt.Errorf("{%s}: a path of more than %d steps", s, maxPath)
	}
	for _, step := range path {
		if step == "" {
			return nil, fmt.Errorf("{%s}: want topic, partition, time:LAYOUT or a dotted field path", s)
		}
	}
	return path, nil
}

// append appends the name for r, in lower case.
//
// A zero Time counts as the Unix epoch: a record that is sent twice has to meet
// its own index. The error says what is wrong with the name; it quotes the name
// only where that cannot hold content of the event, or quote is set.
func (n *name) append(dst []byte, r *buffer.Record, quote bool) ([]byte, error) {
	start := len(dst)
	foreignDot := false
	for i := range n.parts {
		switch p := &n.parts[i]; p.kind {
		case partText:
			dst = append(dst, p.text...)
		case partTopic:
			dst = append(dst, r.Topic...)
		case partPartition:
			dst = strconv.AppendInt(dst, int64(r.Partition), 10)
		case partTime:
			t := r.Time
			if t.IsZero() {
				t = time.Unix(0, 0)
			}
			dst = t.UTC().AppendFormat(dst, p.text)
		case partField:
			text, err := field(r, p.path)
			if err != nil {
				return dst, err
			}
			foreignDot = foreignDot || len(dst) == start
			if len(text) > maxName {
				text = text[:maxName+1] // too long however it goes on
			}
			dst = append(dst, text...)
		}
	}
	var fault string
	if got := dst[start:]; !utf8.Valid(got) {
		fault = "not valid UTF-8"
	} else {
		if !isLower(got) {
			dst = append(dst[:start], bytes.ToLower(got)...)
		}
		fault = illegalName(dst[start:], !foreignDot)
	}
	switch {
	case fault == "":
		return dst, nil
	case n.quotes && !quote:
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
