// Package template reads the small language in which names and texts are made of
// a record: the index of an event, its sourcetype, the name of a file.
//
//	{topic}            the record's topic
//	{partition}        its partition, in decimal
//	{time:2006.01.02}  its timestamp in UTC, in a layout of Go's package time
//	{event.kind}       the scalar at that path in its JSON object: see Field
//
// Everything else stands for itself. There is no way to write a brace that does.
package template

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"weir/buffer"
)

// A Template makes a text of a record. It is safe for concurrent use.
type Template struct {
	parts []part
	// fractions: it shows parts of a second.
	fractions bool
}

// A part is constant text or a placeholder.
type part struct {
	kind  partKind
	text  string // constant text, or the layout of a time
	field Field
}

type partKind uint8

const (
	partText partKind = iota
	partTopic
	partPartition
	partTime
	partField
)

// Parse reads a template, which is part of the configuration: its own length is
// not bounded. An empty one makes an empty text.
//
// Errors: a brace without its other half, a placeholder that is none of the four.
func Parse(s string) (*Template, error) {
	var t Template
	for rest := s; rest != ""; {
		open := strings.IndexAny(rest, "{}")
		if open < 0 {
			t.parts = append(t.parts, part{text: rest})
			break
		}
		if open > 0 {
			t.parts = append(t.parts, part{text: rest[:open]})
		}
		end := strings.IndexAny(rest[open+1:], "{}")
		if rest[open] == '}' || end < 0 || rest[open+1+end] == '{' {
			return nil, fmt.Errorf("template %q: a brace without its other half", s)
		}
		p, err := parsePlaceholder(rest[open+1 : open+1+end])
		if err != nil {
			return nil, fmt.Errorf("template %q: %w", s, err)
		}
		t.parts = append(t.parts, p)
		t.fractions = t.fractions || p.kind == partTime && showsFractions(p.text)
		rest = rest[open+1+end+1:]
	}
	return &t, nil
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
	f, err := ParseField(s)
	if err != nil {
		return part{}, fmt.Errorf("{%s}: want topic, partition, time:LAYOUT or a dotted field path: %w", s, err)
	}
	return part{kind: partField, field: f}, nil
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

// MaxFieldText is how many bytes one {field.path} may add to a text.
const MaxFieldText = 1 << 10

// Append appends the text for r to dst.
//
// The text is foreign wherever it is not constant: a topic, and even more so a
// field, can hold control characters, path separators, invalid UTF-8 and whatever
// else its producer likes, and comes as it is. Who uses the text makes it fit for
// its own target, or refuses it. A field is at most MaxFieldText bytes long and
// can be empty.
//
// A record without a timestamp has that of the Unix epoch: one that is sent twice
// has to come to the same place.
//
// Errors: those of Field.Text, and a field longer than MaxFieldText. They are
// about this record, name the field and do not quote its value; dst is returned
// as it came.
func (t *Template) Append(dst []byte, r *buffer.Record) ([]byte, error) {
	start := len(dst)
	for i := range t.parts {
		switch p := &t.parts[i]; p.kind {
		case partText:
			dst = append(dst, p.text...)
		case partTopic:
			dst = append(dst, r.Topic...)
		case partPartition:
			dst = strconv.AppendInt(dst, int64(r.Partition), 10)
		case partTime:
			at := r.Time
			if at.IsZero() {
				at = time.Unix(0, 0)
			}
			dst = at.UTC().AppendFormat(dst, p.text)
		case partField:
			text, err := p.field.Text(r)
			if err != nil {
				return dst[:start], err
			}
			if len(text) > MaxFieldText {
				return dst[:start], fmt.Errorf("field %s: longer than %d bytes", p.field, MaxFieldText)
			}
			dst = append(dst, text...)
		}
	}
	return dst, nil
}

// Constant is the whole text of a template without placeholders, and whether it
// is one.
func (t *Template) Constant() (string, bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].kind == partText:
		return t.parts[0].text, true
	}
	return "", false
}

// NeedsEvent reports whether the text can hold content of the event.
func (t *Template) NeedsEvent() bool { return t.has(partField) }

// BeginsWithEvent reports whether the text's first byte can be content of the
// event.
func (t *Template) BeginsWithEvent() bool { return len(t.parts) > 0 && t.parts[0].kind == partField }

// PerRecord reports whether two records of one partition can have different
// texts. Where they cannot, the text is worth keeping.
func (t *Template) PerRecord() bool { return t.has(partField) || t.has(partTime) }

// Same reports whether it is known without making them that a and b have the
// same text.
func (t *Template) Same(a, b *buffer.Record) bool {
	switch {
	case a.Origin != b.Origin || t.NeedsEvent():
		return false
	case t.fractions:
		return a.Time.Equal(b.Time)
	}
	return a.Time.Unix() == b.Time.Unix() || !t.PerRecord()
}

func (t *Template) has(kind partKind) bool {
	for i := range t.parts {
		if t.parts[i].kind == kind {
			return true
		}
	}
	return false
}

// Pattern is the template with one star in place of each run of placeholders:
// every text made of it matches, where a star stands for anything.
func (t *Template) Pattern() string {
	var b strings.Builder
	star := false
	for i := range t.parts {
		if p := &t.parts[i]; p.kind == partText {
			b.WriteString(p.text)
			star = false
		} else if !star {
			b.WriteByte('*')
			star = true
		}
	}
	return b.String()
}
