package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"weir/buffer"
)

// maxSteps bounds the steps of a field's path.
const maxSteps = 16

// A Field is the dotted path of a scalar in an event, such as event.kind.
//
// A step is a member name; where a member's name holds dots itself, as in
// {"event.dataset": "x"}, it takes as many steps as it has. Of several members
// that fit, the first counts.
type Field struct{ path []string }

// ParseField reads a path, without braces.
//
// Errors: an empty step, or more than 16 of them.
func ParseField(s string) (Field, error) {
	path := strings.Split(s, ".")
	if len(path) > maxSteps {
		return Field{}, fmt.Errorf("a path of more than %d steps", maxSteps)
	}
	for _, step := range path {
		if step == "" {
			return Field{}, fmt.Errorf("%q is not a path of names with dots between them", s)
		}
	}
	return Field{path}, nil
}

// String is the path.
func (f Field) String() string { return strings.Join(f.path, ".") }

// Text finds the field in r's value, in one scan up to it, and returns it as
// text: a string without its quotes and escapes, a number or a boolean as it is
// written. The text is as long as the event makes it, holds what the event holds
// (control characters, too), can be empty, and can share r's memory: it must not
// be changed and not be kept longer than r.
//
// Errors: the value is not a JSON object; the field is missing; it is null, an
// object or an array. They are about this record and do not quote it.
func (f Field) Text(r *buffer.Record) ([]byte, error) {
	if !r.Shape.Has(buffer.ShapeObject) {
		return nil, fmt.Errorf("field %s: the value is not a JSON object", f)
	}
	s := scanner{doc: r.Value}
	s.space()
	raw := s.find(f.path)
	if raw == nil {
		return nil, fmt.Errorf("field %s: missing", f)
	}
	switch raw[0] {
	case '"':
		text, err := unquote(raw)
		if err != nil {
			return nil, fmt.Errorf("field %s: not a valid string", f)
		}
		return text, nil
	case '{', '[', 'n':
		return nil, fmt.Errorf("field %s: not a string, number or boolean", f)
	default:
		return raw, nil
	}
}

// unquote is the text of a JSON string.
func unquote(raw []byte) ([]byte, error) {
	if len(raw) < 2 {
		return nil, errors.New("not a string")
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return inner, nil
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, err
	}
	return []byte(text), nil
}

// scanner walks over valid JSON without building anything. On JSON that is not
// valid it finds nothing or something, but stays within the document.
type scanner struct {
	doc []byte
	at  int
}

// space skips white space.
func (s *scanner) space() {
	for s.at < len(s.doc) {
		switch s.doc[s.at] {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return
		}
	}
}

// is skips c, and white space behind it, if it is next.
func (s *scanner) is(c byte) bool {
	if s.at >= len(s.doc) || s.doc[s.at] != c {
		return false
	}
	s.at++
	s.space()
	return true
}

// find returns the value at path below the object that is next, nil if there is
// none. It leaves the scanner behind that object only when it found nothing.
func (s *scanner) find(path []string) []byte {
	if !s.is('{') {
		s.value()
		return nil
	}
	for s.at < len(s.doc) && !s.is('}') {
		key := s.str()
		s.space()
		if key == nil || !s.is(':') {
			s.at = len(s.doc) // not JSON
			return nil
		}
		steps := matches(key, path)
		switch {
		case steps == len(path):
			return s.value()
		case steps > 0:
			if v := s.find(path[steps:]); v != nil {
				return v
			}
		default:
			s.value()
		}
		s.space()
		s.is(',')
	}
	return nil
}

// matches says how many steps of path the quoted member name key stands for, 0
// when it is another one.
func matches(key []byte, path []string) int {
	name, err := unquote(key)
	if err != nil {
		return 0
	}
	for i, step := range path {
		if i > 0 {
			if len(name) == 0 || name[0] != '.' {
				return 0
			}
			name = name[1:]
		}
		if !bytes.HasPrefix(name, []byte(step)) {
			return 0
		}
		name = name[len(step):]
		if len(name) == 0 {
			return i + 1
		}
	}
	return 0
}

// str returns the string that is next, with its quotes, and skips it.
func (s *scanner) str() []byte {
	if s.at >= len(s.doc) || s.doc[s.at] != '"' {
		return nil
	}
	start := s.at
	for s.at++; s.at < len(s.doc); s.at++ {
		switch s.doc[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return s.doc[start:s.at]
		}
	}
	s.at = len(s.doc)
	return nil
}

// value returns the value that is next and skips it. Nesting is counted, not
// recursed into: a deep document costs no stack.
func (s *scanner) value() []byte {
	start, depth := s.at, 0
	for s.at < len(s.doc) {
		switch s.doc[s.at] {
		case '"':
			if s.str() == nil {
				return nil
			}
		case '{', '[':
			depth++
			s.at++
			continue
		case '}', ']':
			if depth == 0 {
				return nil
			}
			depth--
			s.at++
		case ' ', '\t', '\n', '\r', ',', ':':
			if depth == 0 {
				return nil
			}
			s.at++
			continue
		default:
			for s.at < len(s.doc) && strings.IndexByte(" \t\r\n,:{}[]\"", s.doc[s.at]) < 0 {
				s.at++
			}
		}
		if depth == 0 {
			return s.doc[start:s.at]
		}
	}
	return nil
}
