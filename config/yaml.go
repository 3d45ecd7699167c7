package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds what is read after aliases are followed: a few hundred bytes
// of aliases to aliases can mean billions of values.
const maxNodes = 100_000

// place is where a value was written: in a line, or in a variable.
type place struct {
	line     int
	variable string
}

// reader turns YAML nodes into the Go values of the types they are for, and
// notes every fault on the way. What it returns needs no conversion any more:
// nothing is left for weak typing to guess.
type reader struct {
	references
	at     map[string]place
	faults Faults
	nodes  int
}

// document is the only document of data, nil when data holds nothing or cannot
// be read.
func (r *reader) document(data []byte) *yaml.Node {
	var doc, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	if err := d.Decode(&doc); err != nil {
		r.syntax(err)
		return nil
	}
	switch err := d.Decode(&second); {
	case err == nil:
		r.faults.add("", place{line: second.Line}, "a second document begins here: one file is one document")
	case !errors.Is(err, io.EOF):
		r.syntax(err)
		return nil
	}
	return doc.Content[0]
}

var syntaxLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func (r *reader) syntax(err error) {
	if errors.Is(err, io.EOF) {
		return // empty: what is missing is said by the checks
	}
	text := err.Error()
	m := syntaxLine.FindStringSubmatch(text)
	problem := strings.TrimPrefix(text, m[0])
	if strings.HasPrefix(problem, "unknown anchor") {
		// It quotes the name, which can be a password that begins with *.
		problem = "a value begins with * and is no known alias: put it in quotes"
	}
	line, _ := strconv.Atoi(m[1]) // none is 0
	r.faults.add("", place{line: line}, "is not YAML: %s", problem)
}

// value reads n as a t; ok is false when there is nothing to be had, since it
// was not written or is a fault.
func (r *reader) value(n *yaml.Node, t reflect.Type, path string) (v any, ok bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if r.nodes > maxNodes {
		return nil, false
	}
	if r.nodes += 1 + len(n.Content); r.nodes > maxNodes {
		r.fault(path, "the file comes to more than %d values, aliases followed", maxNodes)
		return nil, false
	}
	switch {
	case t.Kind() == reflect.Pointer:
		return r.value(n, t.Elem(), path)
	case isSection(t):
		return r.section(n, t, path)
	case t.Kind() == reflect.Slice:
		return r.list(n, t.Elem(), path)
	}
	v, err := r.scalar(n, t)
	if err != nil {
		r.fault(path, "%s", err)
		return nil, false
	}
	return v, true
}

func (r *reader) fault(path, format string, args ...any) {
	r.faults.add(path, r.at[path], format, args...)
}

// section reads a mapping whose keys are those of the struct type t. One without
// content is empty.
func (r *reader) section(n *yaml.Node, t reflect.Type, path string) (map[string]any, bool) {
	m := map[string]any{}
	switch n.ShortTag() {
	case "!!null":
		return m, true
	case "!!map":
	default:
		r.fault(path, "must hold keys (KEY: VALUE), not %s", tagName(n))
		return nil, false
	}
	known := fields(t)
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		at := join(path, keyName(key))
		if first, twice := seen[at]; twice {
			r.faults.add(at, place{line: key.Line}, "is written twice, first in line %d", first)
			continue
		}
		seen[at] = key.Line
		f, ok := find(known, key)
		if !ok {
			r.faults.add(at, place{line: key.Line}, "%s", unknown(key, known))
			continue
		}
		r.at[at] = place{line: key.Line}
		if v, ok := r.value(n.Content[i+1], f.typ, at); ok {
			m[f.key] = r.located(f, v)
		}
	}
	return m, true
}

// located is v, made a path from the right folder if f is a path.
func (r *reader) located(f field, v any) any {
	if s, ok := v.(string); ok && f.is == "file" {
		return r.locate(s)
	}
	return v
}

func find(known []field, key *yaml.Node) (field, bool) {
	for _, f := range known {
		if key.Kind == yaml.ScalarNode && key.Value == f.key {
			return f, true
		}
	}
	return field{}, false
}

func unknown(key *yaml.Node, known []field) string {
	if key.Kind == yaml.ScalarNode && key.Value == "<<" {
		return "is a merge key, which is not supported: write the keys out"
	}
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.key
	}
	if n := nearest(keyName(key), names); n != "" {
		return fmt.Sprintf("is not a known key: did you mean %s?", n)
	}
	return "is not a known key: known here are " + strings.Join(names, ", ")
}

var plainKey = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

// keyName is a key as it may be shown.
func keyName(key *yaml.Node) string {
	if key.Kind != yaml.ScalarNode {
		return "?"
	}
	return shown(key.Value)
}

// shown is a name that someone else chose, short and without control characters.
func shown(name string) string {
	if plainKey.MatchString(name) {
		return name
	}
	return fmt.Sprintf("%.64q", name)
}

// list reads a sequence. An item that is a fault keeps its place, so that the
// others keep their numbers.
func (r *reader) list(n *yaml.Node, t reflect.Type, path string) (any, bool) {
	switch n.ShortTag() {
	case "!!null":
		return nil, false
	case "!!seq":
	default:
		r.fault(path, "must be a list ([A, B], or a line - A for each), not %s", tagName(n))
		return nil, false
	}
	sections, texts := []any{}, []string{}
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		r.at[at] = place{line: item.Line}
		v, ok := r.value(item, t, at)
		if isSection(t) {
			if !ok {
				v = map[string]any{}
			}
			sections = append(sections, v)
			continue
		}
		s, _ := v.(string)
		texts = append(texts, s)
	}
	if isSection(t) {
		return sections, true
	}
	return texts, true
}

// kind is what is written for a scalar type.
type kind struct {
	name  string
	tags  string // YAML tags it may have
	parse func(string) (any, error)
}

func kindOf(t reflect.Type) kind {
	switch t {
	case reflect.TypeFor[Secret]():
		return kind{"secret text", "!!str !!timestamp", func(s string) (any, error) { return NewSecret(s), printable(s) }}
	case reflect.TypeFor[Bytes]():
		return kind{"a size", "!!str !!int !!float", func(s string) (any, error) { return ParseBytes(s) }}
	case reflect.TypeFor[time.Duration]():
		return kind{"a duration", "!!str !!int !!float", func(s string) (any, error) { return parseDuration(s) }}
	case reflect.TypeFor[int]():
		return kind{"a whole number", "!!int", func(s string) (any, error) {
			i, err := strconv.Atoi(s)
			if err != nil {
				return nil, errors.New("is not a whole number")
			}
			return i, nil
		}}
	case reflect.TypeFor[bool]():
		return kind{"true or false", "!!bool", func(s string) (any, error) {
			if s = strings.ToLower(s); s != "true" && s != "false" {
				return nil, errors.New("is neither true nor false")
			}
			return s == "true", nil
		}}
	default:
		return kind{"text", "!!str !!timestamp", func(s string) (any, error) { return s, printable(s) }}
	}
}

// scalar reads one value, its references resolved.
func (r *reader) scalar(n *yaml.Node, t reflect.Type) (any, error) {
	k := kindOf(t)
	tag := n.ShortTag()
	refers := tag == "!!str" && strings.Contains(n.Value, "${")
	switch {
	case n.Kind == yaml.ScalarNode && (refers || hasTag(k.tags, tag)):
	case tag == "!!null":
		return nil, errors.New("has no value: write one, or take the key out")
	case n.Kind == yaml.ScalarNode && hasTag(k.tags, "!!str"):
		return nil, fmt.Errorf("must be %s, not %s: put it in quotes", k.name, tagName(n))
	default:
		_, err := k.parse(n.Value)
		if tag == "!!str" && err == nil {
			return nil, fmt.Errorf("must be %s, not text: take the quotes away", k.name)
		}
		return nil, fmt.Errorf("must be %s, not %s", k.name, tagName(n))
	}
	if !refers {
		return k.parse(n.Value)
	}
	text, file, err := r.expand(n.Value)
	if err != nil {
		return nil, err
	}
	if file && t == reflect.TypeFor[Secret]() {
		refs, value := r.references, n.Value
		return Secret{read: func() (string, error) {
			text, _, err := refs.expand(value)
			if err != nil {
				return "", fmt.Errorf("the secret %w", err)
			}
			return text, nil
		}}, nil
	}
	return k.parse(text)
}

func hasTag(tags, tag string) bool {
	for t := range strings.FieldsSeq(tags) {
		if t == tag {
			return true
		}
	}
	return false
}

// tagName says what n is.
func tagName(n *yaml.Node) string {
	switch n.ShortTag() {
	case "!!map":
		return "keys"
	case "!!seq":
		return "a list"
	case "!!str", "!!timestamp":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	default:
		return "a value with a tag (!) of its own"
	}
}
