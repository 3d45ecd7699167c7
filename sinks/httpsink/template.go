package httpsink

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"weir/sinks/template"
)

// A part of an event template is constant text or a placeholder.
type part struct {
	kind   partKind
	quoted bool           // it stands inside a JSON string
	text   string         // constant text, or the layout of a time
	field  template.Field // of partField
}

type partKind uint8

const (
	partText partKind = iota
	partEvent
	partEventText
	partEventBase64
	partTopic
	partPartition
	partOffset
	partKey
	partLayout
	partUnix
	partUnixMilli
	partUnixNano
	partField
)

var placeholders = map[string]partKind{
	"event": partEvent, "event_text": partEventText, "event_base64": partEventBase64,
	"topic": partTopic, "partition": partPartition, "offset": partOffset, "key": partKey,
	"time:unix": partUnix, "time:unix_ms": partUnixMilli, "time:unix_nano": partUnixNano,
}

// parseEvent reads an event template: JSON with placeholders in it. A brace
// begins a placeholder unless white space, a quote or another brace follows it,
// as it does wherever JSON itself has one. Inside a string \u007b stands for a
// brace.
//
// Errors: an unknown placeholder; what it comes to would not always be one JSON
// object or array.
func parseEvent(s string) ([]part, error) {
	var parts []part
	var text strings.Builder
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '{' && i+1 < len(s) && strings.IndexByte(" \t\r\n\"{}", s[i+1]) < 0:
			end := strings.IndexAny(s[i+1:], "{}\"")
			if end < 0 || s[i+1+end] != '}' {
				return nil, errors.New("a placeholder without its closing brace")
			}
			p, err := parsePlaceholder(s[i+1 : i+1+end])
			if err != nil {
				return nil, err
			}
			if p.kind == partEvent && quoted {
				return nil, errors.New("{event} is an object and cannot stand inside a string: {event_text} can")
			}
			p.quoted = quoted
			if text.Len() > 0 {
				parts = append(parts, part{text: text.String()})
				text.Reset()
			}
			parts = append(parts, p)
			i += 1 + end
			continue
		case c == '\\' && quoted && i+1 < len(s):
			text.WriteByte(c)
			i++
		case c == '"':
			quoted = !quoted
		}
		text.WriteByte(s[i])
	}
	if text.Len() > 0 {
		parts = append(parts, part{text: text.String()})
	}
	return parts, checkEvent(parts)
}

func parsePlaceholder(s string) (part, error) {
	if kind, ok := placeholders[s]; ok {
		return part{kind: kind}, nil
	}
	if layout, ok := strings.CutPrefix(s, "time:"); ok || s == "time" {
		if _, err := template.Parse("{" + s + "}"); err != nil {
			return part{}, fmt.Errorf("{%s}: want {time:unix}, {time:unix_ms}, {time:unix_nano} or a Go layout such as {time:2006-01-02T15:04:05.000Z}", s)
		}
		return part{kind: partLayout, text: layout}, nil
	}
	f, err := template.ParseField(s)
	if err != nil {
		return part{}, fmt.Errorf("{%s}: not a placeholder, and no dotted path of a field either", s)
	}
	return part{kind: partField, field: f}, nil
}

// checkEvent tries the template with what placeholders can come to.
func checkEvent(parts []part) error {
	for _, null := range []bool{false, true} {
		var s strings.Builder
		for i := range parts {
			s.WriteString(parts[i].sample(null))
		}
		text := s.String()
		if !utf8.ValidString(text) || !json.Valid([]byte(text)) {
			return errors.New("is not JSON with values in place of the placeholders")
		}
		// A bare number or string behind another one would run into it where
		// nothing stands between two events.
		if first := strings.TrimLeft(text, " \t\r\n")[0]; first != '{' && first != '[' {
			return errors.New("must come to a JSON object or array")
		}
		if strings.ContainsAny(text, "\r\n") {
			return errors.New("must be on one line")
		}
	}
	return nil
}

// sample is something p can come to that is as awkward as can be: no hexadecimal
// digit (it must not complete an escape), a sign (it must not prolong a number).
func (p *part) sample(null bool) string {
	switch p.kind {
	case partText:
		return p.text
	case partEvent:
		return `{"z":""}`
	case partPartition, partOffset, partUnix, partUnixMilli, partUnixNano:
		return "-1"
	}
	nullable := p.kind != partTopic && p.kind != partLayout
	switch {
	case p.quoted && null && nullable:
		return ""
	case p.quoted:
		return "zz"
	case null && nullable:
		return "null"
	default:
		return `"zz"`
	}
}

// holdsEvent reports whether what was in the record is in what is sent, whatever
// else is.
func holdsEvent(parts []part) bool {
	for i := range parts {
		switch parts[i].kind {
		case partEvent, partEventText, partEventBase64:
			return true
		}
	}
	return false
}

// parseBody reads a body template: JSON with one {events} in the place of an
// array.
//
// Errors: anything else.
func parseBody(s string) (before, after string, err error) {
	before, after, found := strings.Cut(s, "{events}")
	if !found || strings.Contains(after, "{events}") {
		return "", "", errors.New("must hold {events}, and once")
	}
	if sample := before + `[""]` + after; !utf8.ValidString(sample) || !json.Valid([]byte(sample)) {
		return "", "", errors.New("is not JSON with an array in place of {events}, which is its only placeholder")
	}
	return before, after, nil
}
