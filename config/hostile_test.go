package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
)

// FuzzFaultsAreHarmless: a configuration from somebody else cannot write to the
// terminal of whoever checks it, nor have secrets told.
func FuzzFaultsAreHarmless(f *testing.F) {
	bad, _ := filepath.Glob("testdata/bad/*.yaml")
	for _, file := range bad {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, "20s")
	}
	f.Add([]byte("\"\\x1b[2J\": 1\nkafka: {\"a\\nb\": 2}"), "\x1b[2J")
	f.Add([]byte("kafka: {client_id: \"\\x1b\", brokers: [\"\\e[2J:1\"]}"), "\n")
	f.Add([]byte("a: *\x1b[2J"), "")
	f.Add([]byte("%TAG ! \x07\n---\na: !x\x07 1"), "")
	f.Add([]byte("listen: \"${env:\\x1b}\"\nrack: \"${file:\\x1b[2J}\""), "")
	f.Add([]byte("kafka: {client_id: \"${env:SECRET}\"}\nlisten: \"${file:s3cr3t-${env:SECRET}}\""), "")
	dir := f.TempDir()
	const secret = "Zq7-secret-Zq7"
	f.Fuzz(func(t *testing.T, data []byte, override string) {
		_, err := load(data, dir, []string{"SECRET=" + secret, "WEIR_KAFKA_CLIENT_ID=" + override, "WEIR_\x1b[2J=1"})
		if err == nil {
			return
		}
		var faults Faults
		if !errors.As(err, &faults) {
			t.Fatalf("%T: %v", err, err)
		}
		for _, fault := range faults {
			s := fault.String()
			if i := strings.IndexFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }); i >= 0 {
				t.Errorf("a control character at byte %d of %q", i, s)
			}
			if len(s) > 2000 {
				t.Errorf("a fault of %d bytes: %.100q", len(s), s)
			}
			if strings.Contains(s, secret) {
				t.Errorf("the secret is in %q", s)
			}
		}
	})
}

// The dead-letter file is one file, named by whoever wrote the configuration: no
// part of its path is a placeholder, so no event can lead it elsewhere.
func TestTheDeadLetterFileIsNoTemplate(t *testing.T) {
	cfg, err := load([]byte(`
kafka: {brokers: ["127.0.0.1:9092"]}
connectors:
  - name: a
    topics: [t]
    dead_letter: {file: "sub/{topic}-{a.b}.jsonl"}
    sink: {elasticsearch: {urls: ["http://127.0.0.1:9200"], index: i}}
`), "/etc/weir", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := cfg.Connectors[0].DeadLetter.File; got != "/etc/weir/sub/{topic}-{a.b}.jsonl" {
		t.Errorf("the file is %q", got)
	}
}
