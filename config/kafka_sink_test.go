package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// kafkaSinks is a configuration with these connectors, each written as NAME|TOPICS
// or PATTERN|SINK.
func kafkaSinks(connectors ...string) string {
	var b strings.Builder
	b.WriteString("kafka: {brokers: [\"127.0.0.1:9092\"]}\nconnectors:\n")
	for i, c := range connectors {
		read, sink, _ := strings.Cut(c, "|")
		fmt.Fprintf(&b, "- {name: c%d, %s, sink: {kafka: {%s}}}\n", i, read, sink)
	}
	return b.String()
}

func TestKafkaSinkFaults(t *testing.T) {
	const (
		back   = "comes back to this connector"
		unused = "is set, but brokers is not"
	)
	for name, x := range map[string]struct {
		file string
		want []string // PATH: part of the text; none: it is right
	}{
		"least":         {kafkaSinks("topics: [a]|topic: b"), nil},
		"template":      {kafkaSinks("topics: [a]|topic: 'x.{topic}'"), nil},
		"other cluster": {kafkaSinks("topics: [a]|topic: a, brokers: ['10.0.0.1:9092']"), nil},
		"pattern elsewhere": {
			kafkaSinks("topics_pattern: '.*'|topic: '{topic}', brokers: ['10.0.0.1:9092']"), nil},
		"login elsewhere": {kafkaSinks("topics: [a]|topic: a, brokers: ['10.0.0.1:9092'], sasl: {mechanism: SCRAM-SHA-512, username: u, password: p}"), nil},
		"chain":           {kafkaSinks("topics: [a]|topic: b", "topics: [b]|topic: c"), nil},

		"no topic":            {kafkaSinks("topics: [a]|track: false"), []string{"connectors[0].sink.kafka.topic: is needed"}},
		"illegal topic":       {kafkaSinks("topics: [a]|topic: 'b c'"), []string{"connectors[0].sink.kafka.topic: is not a legal topic name"}},
		"unknown placeholder": {kafkaSinks("topics: [a]|topic: '{partition}'"), []string{"connectors[0].sink.kafka.topic: has an unknown placeholder"}},
		"half a placeholder":  {kafkaSinks("topics: [a]|topic: '{topic'"), []string{"connectors[0].sink.kafka.topic: has an unknown placeholder"}},
		"compression":         {kafkaSinks("topics: [a]|topic: b, compression: brotli"), []string{"connectors[0].sink.kafka.compression: must be one of"}},
		"tls without brokers": {kafkaSinks("topics: [a]|topic: b, tls: {enabled: true}"), []string{"connectors[0].sink.kafka.tls: " + unused}},
		"sasl without brokers": {kafkaSinks("topics: [a]|topic: b, sasl: {mechanism: PLAIN, username: u, password: p}"),
			[]string{"connectors[0].sink.kafka.sasl: " + unused}},
		"plain password": {kafkaSinks("topics: [a]|topic: b, brokers: ['10.0.0.1:9092'], sasl: {mechanism: PLAIN, username: u, password: p}"),
			[]string{"connectors[0].sink.kafka.sasl.mechanism: PLAIN would send the secret over the network unencrypted: set connectors[0].sink.kafka.tls.enabled"}},
		"bad broker": {kafkaSinks("topics: [a]|topic: b, brokers: [kafka]"), []string{"connectors[0].sink.kafka.brokers[0]: must be HOST:PORT"}},

		"reads what it writes":  {kafkaSinks("topics: [a, b]|topic: b"), []string{"connectors[0].sink.kafka.topic: " + back}},
		"the template itself":   {kafkaSinks("topics: [a]|topic: '{topic}'"), []string{"connectors[0].sink.kafka.topic: " + back}},
		"template onto another": {kafkaSinks("topics: [a, x.a]|topic: 'x.{topic}'"), []string{"connectors[0].sink.kafka.topic: " + back}},
		"pattern":               {kafkaSinks("topics_pattern: '^edr'|topic: edr.copy"), []string{"connectors[0].sink.kafka.topic: " + back}},
		"pattern and template": {kafkaSinks("topics_pattern: '^edr'|topic: 'copy.{topic}'"),
			[]string{"connectors[0].sink.kafka.topic: must not hold {topic}"}},
		"same cluster by address": {kafkaSinks("topics: [a]|topic: a, brokers: ['10.0.0.1:9092', '127.0.0.1:9092']"),
			[]string{"connectors[0].sink.kafka.topic: " + back}},
		"by way of another": {kafkaSinks("topics: [a]|topic: b", "topics: [b]|topic: c", "topics: [c]|topic: a", "topics: [b]|topic: d"),
			[]string{"connectors[0].sink.kafka.topic: " + back, "connectors[1].sink.kafka.topic: " + back, "connectors[2].sink.kafka.topic: " + back}},
		"dead letters": {kafkaSinks("topics: [a], dead_letter: {topic: dlq}|topic: dlq"),
			[]string{"connectors[0].sink.kafka.topic: is the dead-letter topic of connectors[0]"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load([]byte(x.file), t.TempDir(), nil)
			if len(x.want) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var got Faults
			if !errors.As(err, &got) || len(got) != len(x.want) {
				t.Fatalf("got %v, want %d faults", err, len(x.want))
			}
			for i, want := range x.want {
				path, text, _ := strings.Cut(want, ": ")
				if got[i].Path != path || !strings.HasPrefix(got[i].Problem, text) {
					t.Errorf("got %v, want %s", got[i], want)
				}
			}
		})
	}
}

func TestKafkaSinkWarnings(t *testing.T) {
	f := func(s KafkaSink, want ...string) {
		t.Helper()
		var got []string
		warnKafkaSink("sink.kafka", &s, func(key, format string, args ...any) { got = append(got, key+": "+fmt.Sprintf(format, args...)) })
		if !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	f(KafkaSink{})
	f(KafkaSink{Brokers: []string{"localhost:1"}})
	f(KafkaSink{Brokers: []string{"a:1"}, TLS: TLS{Enabled: true}})
	f(KafkaSink{Brokers: []string{"localhost:1", "a:1", "b:1"}},
		"sink.kafka.brokers[1]: events go over the network unencrypted, since sink.kafka.tls.enabled is false")
	f(KafkaSink{Brokers: []string{"a:1"}, TLS: TLS{Enabled: true, InsecureSkipVerify: true}},
		"sink.kafka.tls.insecure_skip_verify: "+unverified)
}
