package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Print writes the effective configuration as YAML: every key, with what the
// file, the environment and the defaults come to. A secret shows as ***; what
// was referenced anywhere else is shown, since it was not said to be one.
func (c *Config) Print(w io.Writer) error {
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	if err := e.Encode(node(reflect.ValueOf(c))); err != nil {
		return fmt.Errorf("print configuration: %w", err)
	}
	return e.Close()
}

// node is v as it would be written in the file.
func node(v reflect.Value) *yaml.Node {
	v = reflect.Indirect(v)
	n := &yaml.Node{}
	switch {
	case isSection(v.Type()):
		n.Kind = yaml.MappingNode
		for _, f := range fields(v.Type()) {
			if f := v.Field(f.index); f.Kind() == reflect.Pointer && f.IsNil() {
				continue // a sink that is not the one
			}
			n.Content = append(n.Content, textNode(f.key), node(v.Field(f.index)))
		}
	case v.Kind() == reflect.Slice:
		n.Kind = yaml.SequenceNode
		if v.Len() == 0 || v.Type().Elem().Kind() == reflect.String {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			n.Content = append(n.Content, node(v.Index(i)))
		}
	case v.Kind() == reflect.Int || v.Kind() == reflect.Bool:
		n.Kind, n.Value = yaml.ScalarNode, written(v.Interface())
	default:
		return textNode(strings.ReplaceAll(written(v.Interface()), "${", "$${"))
	}
	return n
}

func textNode(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}
