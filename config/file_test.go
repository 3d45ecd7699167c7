package config

import (
	"errors"
	"strings"
	"testing"
)

const fileConfig = `
kafka: {brokers: ["127.0.0.1:9092"]}
connectors:
- {name: a, topics: [a], sink: {file: {dir: /archive}}}
`

func TestFileDefaults(t *testing.T) {
	got := *mustLoad(t, fileConfig).Connectors[0].Sink.File
	want := DefaultFile()
	want.Dir = "/archive"
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFileFaults(t *testing.T) {
	f := func(keys string, want ...string) {
		t.Helper()
		_, err := load([]byte(strings.Replace(fileConfig, "dir: /archive", keys, 1)), t.TempDir(), nil)
		var got Faults
		if err != nil && !errors.As(err, &got) {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Errorf("%s: got %q, want %d faults", keys, got, len(want))
			return
		}
		for _, w := range want {
			key, problem, _ := strings.Cut(w, ": ")
			if !strings.Contains(err.Error(), "connectors[0].sink.file."+key+" (line 4): "+problem) {
				t.Errorf("%s: got %v, want %s", keys, err, w)
			}
		}
	}
	f(`dir: /a, path: ""`)
	f(`dir: /a, path: "year={time:2006}/{topic}/{event.kind}", compression: gzip, rotate_bytes: 1MiB, rotate_after: 168h`)
	f(`path: a`, "dir: is needed")
	f(`dir: /a, compression: lz4, rotate_bytes: 1, rotate_after: 1s`, "compression: must be one of zstd, gzip, none",
		"rotate_bytes: must be 1MiB", "rotate_after: must be 1m")
	for path, want := range map[string]string{
		"../a":                         "must be folders",
		"/a":                           "must be folders",
		"a//b":                         "must be folders",
		"a/./b":                        "must be folders",
		"a b":                          "has a folder that is none",
		".a":                           "has a folder that is none",
		"{time:2006/01}":               "has a { or } without the other; no /",
		"{topic":                       "has a { or } without the other",
		"}a{":                          "has a { or } without the other",
		"{time}":                       "has an unknown placeholder",
		"{a..b}":                       "has an unknown placeholder",
		"{time:day}":                   "has a {time:LAYOUT} without a time in it",
		"a" + strings.Repeat("/a", 16): "has more than 16 folders",
	} {
		f(`dir: /a, path: "`+path+`"`, "path: "+want)
	}
}
