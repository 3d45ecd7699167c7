package config

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// maxFile bounds weir.yaml.
const maxFile = 1 << 20

// Load reads the YAML file at path with what the environment overrides.
//
// Errors: Faults, everything that is wrong at once; or that the file cannot be
// read.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	return load(data, dir, os.Environ())
}

// load is Load of a file that holds data and is in dir.
func load(data []byte, dir string, environ []string) (*Config, error) {
	if len(data) > maxFile {
		return nil, Faults{{Problem: "the file is larger than 1MiB"}}
	}
	env := map[string]string{}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	r := &reader{references: references{dir, env}, at: map[string]place{}}
	var file map[string]any
	if root := r.document(data); root != nil {
		file, _ = r.section(root, reflect.TypeFor[Config](), "")
	} else if len(r.faults) > 0 {
		return nil, r.faults // nothing is known that could be checked
	}
	cfg, err := layers(file, r.overrides())
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	// Beyond a hundred faults this is no configuration, and checking it is only
	// work that an attacker can make long.
	if len(r.faults) <= 100 {
		r.faults = append(r.faults, check(cfg, r.at, r.faults)...)
	}
	if len(r.faults) > 0 {
		r.faults.sort()
		return nil, r.faults
	}
	return cfg, nil
}

// layers is the configuration that the defaults, the file and the environment
// make, each above the one before.
//
// Viper keeps the layers. It is told every key and is given values of the final
// type under keys we know, all in lower case, so that nothing is left of what
// it would do by itself: lower the case of a user's key, take 5 for nanoseconds
// and "12" for 12, pass over a variable whose key it has not heard of.
func layers(file, env map[string]any) (*Config, error) {
	v := viper.New()
	leaves(reflect.ValueOf(Default()), "", func(path string, _ field, value reflect.Value) {
		v.SetDefault(path, value.Interface())
	})
	if err := v.MergeConfigMap(file); err != nil {
		return nil, err
	}
	for path, value := range env {
		v.Set(path, value)
	}

	// A list is one value to viper: its items get their defaults by being decoded
	// into them.
	var cfg Config
	items, _ := file["connectors"].([]any)
	for _, item := range items {
		c := DefaultConnector()
		sink, _ := item.(map[string]any)["sink"].(map[string]any)
		c.Sink = named(sink)
		cfg.Connectors = append(cfg.Connectors, c)
	}
	err := v.UnmarshalExact(&cfg, func(dc *mapstructure.DecoderConfig) {
		dc.WeaklyTypedInput = false
		dc.DecodeHook = nil
	})
	if err != nil {
		return nil, err
	}
	for i := range cfg.Connectors {
		if c := &cfg.Connectors[i]; c.Group == "" {
			c.Group = "weir." + c.Name
		}
	}
	return &cfg, nil
}

// named has the kinds of sinks that the file names, with their defaults.
func named(file map[string]any) Sink {
	var some Sink
	all := DefaultSink()
	from, to := reflect.ValueOf(&all).Elem(), reflect.ValueOf(&some).Elem()
	for _, f := range fields(from.Type()) {
		if file[f.key] != nil {
			to.Field(f.index).Set(from.Field(f.index))
		}
	}
	return some
}

// serviceVariable is what Kubernetes sets in every pod for a service whose name
// begins with weir.
var serviceVariable = regexp.MustCompile(
	`^WEIR_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// overrides reads the WEIR_ variables, by the path of their key. An empty one
// counts as not set, since that is how compose files and unit files hand on
// what nobody gave. Values are taken as they are, without references.
func (r *reader) overrides() map[string]any {
	values := map[string]any{}
	var known []string
	leaves(reflect.ValueOf(Default()), "", func(path string, f field, _ reflect.Value) {
		name := variable(path)
		known = append(known, name)
		text := r.env[name]
		if text == "" {
			return
		}
		for at := range r.at {
			if within(at, path) {
				delete(r.at, at) // what the file says there is not what counts
			}
		}
		r.at[path] = place{variable: name}
		if f.typ.Kind() == reflect.Slice {
			values[path] = items(text)
			return
		}
		v, err := kindOf(f.typ).parse(text)
		if err != nil {
			r.fault(path, "%s", err)
			return
		}
		values[path] = r.located(f, v)
	})
	for _, name := range slices.Sorted(maps.Keys(r.env)) {
		if !strings.HasPrefix(name, "WEIR_") || strings.HasPrefix(name, "WEIR_TEST_") ||
			serviceVariable.MatchString(name) || slices.Contains(known, name) {
			continue
		}
		problem := "is not a setting"
		if strings.HasPrefix(name, "WEIR_CONNECTORS") {
			problem += ": connectors are set in the file only"
		} else if n := nearest(name, known); n != "" {
			problem += ": did you mean " + n + "?"
		}
		r.faults.add("", place{variable: shown(name)}, "%s", problem)
	}
	return values
}

// items is a list in one variable.
func items(text string) []string {
	var list []string
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	return list
}
