package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Key describes one key of weir.yaml for its reference.
type Key struct {
	Path     string // connectors[].batch.linger
	Type     string // what is written there; "" for a section, which holds further keys
	Default  string // as it would be written; "" when empty
	Needed   bool   // there is no default
	Variable string // environment variable that overrides it, "" when none can
	Struct   string // Go type and field that hold it, where its meaning is written
	Field    string
}

// Keys is every key of weir.yaml, in the order of the types.
func Keys() []Key {
	all := Default()
	connector := DefaultConnector()
	connector.Sink = DefaultSink()
	all.Connectors = []Connector{connector}

	var keys []Key
	var walk func(v reflect.Value, prefix string)
	walk = func(v reflect.Value, prefix string) {
		for _, f := range fields(v.Type()) {
			v := reflect.Indirect(v.Field(f.index))
			k := Key{Path: join(prefix, f.key), Needed: f.is == "needed", Struct: f.owner, Field: f.name}
			switch {
			case v.Kind() == reflect.Slice && isSection(v.Type().Elem()):
				k.Path += "[]"
				keys = append(keys, k)
				if v.Len() == 0 {
					v = reflect.MakeSlice(v.Type(), 1, 1)
				}
				walk(v.Index(0), k.Path)
			case isSection(v.Type()):
				keys = append(keys, k)
				walk(v, k.Path)
			default:
				k.Type, k.Default = "list of text", ""
				if v.Kind() != reflect.Slice {
					k.Type, k.Default = strings.TrimPrefix(kindOf(v.Type()).name, "a "), written(v.Interface())
				}
				if !strings.HasPrefix(k.Path, "connectors") {
					k.Variable = variable(k.Path)
				}
				keys = append(keys, k)
			}
		}
	}
	walk(reflect.ValueOf(all), "")
	return keys
}

// written is a scalar as it is written in YAML.
func written(v any) string {
	if d, ok := v.(time.Duration); ok {
		s := d.String() // 1m0s and 1h0m0s are 1m and 1h
		if strings.HasSuffix(s, "m0s") {
			s = strings.TrimSuffix(s, "0s")
		}
		if strings.HasSuffix(s, "h0m") {
			s = strings.TrimSuffix(s, "0m")
		}
		return s
	}
	return fmt.Sprint(v)
}

// field is one key of a section and the struct field behind it.
type field struct {
	key   string
	owner string // Go type
	name  string // Go field
	index int
	typ   reflect.Type
	is    string // file: a path; needed: no default
}

func fields(t reflect.Type) []field {
	fs := make([]field, t.NumField())
	for i := range fs {
		f := t.Field(i)
		fs[i] = field{f.Tag.Get("mapstructure"), t.Name(), f.Name, i, f.Type, f.Tag.Get("is")}
	}
	return fs
}

// isSection reports whether a t is written as a mapping.
func isSection(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[Secret]()
}

// leaves calls visit with every key below v that is no section and no list of
// sections.
func leaves(v reflect.Value, prefix string, visit func(path string, f field, v reflect.Value)) {
	for _, f := range fields(v.Type()) {
		path, v := join(prefix, f.key), v.Field(f.index)
		switch {
		case isSection(f.typ):
			leaves(v, path, visit)
		case f.typ.Kind() == reflect.Slice && isSection(f.typ.Elem()):
		default:
			visit(path, f, v)
		}
	}
}

func join(prefix, key string) string {
	if prefix == "" {
		return key
	}
	return prefix + "." + key
}

// variable is the environment variable that overrides the key at path.
func variable(path string) string {
	return "WEIR_" + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}
